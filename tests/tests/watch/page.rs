//! The page in a browser: a run from 0 to 100 % with a worker killed in between, orders, lost connections.

use tests::browser::{Browser, Look, Page};
use tests::redis::free_port;
use tests::watched::{Plan, Scene};

const TOKEN: &str = "a token nobody guesses";
const DESKTOP: Look = Look { width: 1280, height: 900, scale: 1.0, dark: false, phone: false };
const PHONE: Look = Look { width: 375, height: 740, scale: 2.0, dark: false, phone: true };

const OPEN: &str = "document.getElementById('ask').open";
const CLOSED: &str = "!document.getElementById('ask').open";
const TITLE: &str = "document.getElementById('ask-title').innerText";
const A_WORKER: &str = "document.querySelectorAll('#workers tr').length === 1";
const A_FAILURE: &str = "document.querySelectorAll('#failures li').length >= 1";

/// A shard whose bundle is gone: there is something among the failures.
fn lose_a_bundle(scene: &Scene) {
    let bundle = std::fs::read_dir(scene.run_folder().join("inputs")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(bundle.path()).unwrap();
}

fn percent(page: &mut Page<'_>) -> f64 {
    page.text("percent").parse().unwrap_or(-1.0)
}

#[test]
fn a_run_is_seen_from_nothing_to_its_end_though_a_worker_is_killed() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(scene) = Scene::plan(Plan { items: 640, shard_size: 8, lease: "2s" }) else { return };
    let dashboard = scene.dashboard(None);
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("the page", "document.getElementById('percent').innerText === '0.0'");
    assert_eq!(page.text("no-workers"), "No worker has been heard yet.");
    assert_eq!(page.evaluate("document.querySelectorAll('#cells i').length"), 80);
    assert_eq!(page.evaluate("document.getElementById('orders').hidden"), true, "no orders without a token");

    let mut killed = scene.worker("killed", 100);
    let _other = scene.worker("other", 100);
    let mut seen = vec![0.0];
    let mut dead = false;
    let rows = "document.querySelectorAll('#workers tr').length";
    tests::wait::until("the end", || {
        let now = percent(&mut page);
        if now > *seen.last().unwrap() {
            seen.push(now);
        }
        assert!(now >= *seen.last().unwrap(), "{now} after {seen:?}");
        if !dead && now > 10.0 && page.evaluate(rows) == 2 {
            killed.kill();
            dead = true;
        }
        (now >= 100.0).then_some(())
    });
    assert!(dead && seen.len() >= 4, "{seen:?}");
    assert_eq!(page.text("stage"), "finished");
    assert_eq!(page.text("items"), "640");
    let title = page.evaluate("document.title");
    assert_eq!(title, "100.0 % · exam-2025");
    page.wait_for(
        "every cell to be done",
        "[...document.querySelectorAll('#cells i')].every(cell => cell.style.getPropertyValue('--done') === '100%')",
    );
    let drawn = page.evaluate("document.querySelector('#chart .curve').getAttribute('d').split('L').length");
    assert!(drawn.as_u64().unwrap() >= 2, "{drawn}");
    // A worker's name holds the id of its process.
    let silent = format!(
        "[...document.querySelectorAll('#workers tr[data-condition=silent] .id')]\
         .some(cell => cell.innerText.includes('-{}-'))",
        killed.id()
    );
    page.wait_for("the killed worker to be silent", &silent);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn orders_are_given_on_the_page_with_the_token() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(scene) = Scene::plan(Plan { items: 64, shard_size: 8, lease: "2s" }) else { return };
    let dashboard = scene.dashboard(Some(TOKEN));
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("the page", "document.getElementById('stage').innerText === 'running'");
    page.evaluate("document.querySelector('[data-order=pause]').click()");
    assert_eq!(page.evaluate("document.activeElement.id"), "token");
    page.type_in(TOKEN);
    page.press("Enter", 13);
    page.wait_for("the pause", "document.getElementById('stage').innerText === 'paused'");
    assert!(page.text("answer").starts_with("Paused"), "{}", page.text("answer"));
    assert_eq!(scene.status()["state"], "paused");
    // The token is known now.
    page.evaluate("document.querySelector('[data-order=resume]').click()");
    page.wait_for("the end of the pause", "document.getElementById('stage').innerText === 'running'");
    assert_eq!(scene.status()["state"], "running");
    // Draining asks first.
    let drain = "document.querySelector('[data-order=drain]').click()";
    page.evaluate(drain);
    page.wait_for("the question", OPEN);
    assert_eq!(page.text("ask-title"), "Drain this run?");
    page.press("Escape", 27);
    page.wait_for("the dialog to close", CLOSED);
    assert_eq!(scene.status()["state"], "running");
    page.evaluate(drain);
    page.wait_for("the question again", OPEN);
    page.evaluate("document.getElementById('ask-yes').click()");
    page.wait_for("the draining", "document.getElementById('stage').innerText === 'draining'");
    assert_eq!(scene.status()["state"], "draining");
}

#[test]
fn reading_takes_the_token_where_strangers_can_reach_it_and_nobody_is_pressed() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(scene) = Scene::plan(Plan { items: 64, shard_size: 8, lease: "2s" }) else { return };
    let port = free_port();
    let dashboard = scene.dashboard_for_strangers(port, TOKEN);
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("the dialog", OPEN);
    page.press("Escape", 27);
    page.wait_for("the way back", "document.getElementById('unlock').checkVisibility()");
    assert_eq!(page.evaluate(OPEN), false);
    page.evaluate("document.getElementById('unlock').click()");
    page.wait_for("the dialog again", OPEN);
    assert_eq!(page.evaluate("document.getElementById('unlock').hidden"), true);
    // No header carries this one.
    page.type_in("a token nobody\u{200b} guesses");
    page.press("Enter", 13);
    let asked_again = "document.getElementById('ask').open && document.getElementById('token').value === ''";
    page.wait_for("the dialog once more", asked_again);
    page.type_in(TOKEN);
    page.press("Enter", 13);
    page.wait_for("the page", "document.getElementById('stage').innerText === 'running'");
    assert_eq!(page.evaluate("document.getElementById('links').hidden"), true, "a link carries no token");

    // The token is refused while a question is open: it is asked for afterwards, and the question stays what it was.
    page.evaluate("document.querySelector('[data-order=drain]').click()");
    page.wait_for("the question", OPEN);
    drop(dashboard);
    let other = "another token that nobody guesses";
    let _again = scene.dashboard_for_strangers(port, other);
    page.wait_for("the token to be refused", "sessionStorage.getItem('token') === null");
    assert_eq!(page.text("ask-title"), "Drain this run?");
    page.press("Escape", 27);
    page.wait_for("the token to be asked for", &format!("{OPEN} && {TITLE} === 'Dashboard token'"));
    page.type_in(other);
    page.press("Enter", 13);
    page.wait_for("the page again", "document.getElementById('connection').innerText.startsWith('live')");
    assert_eq!(page.evaluate(OPEN), false);
    assert_eq!(scene.status()["state"], "running", "nobody confirmed the draining");
}

#[test]
fn rows_stay_while_what_they_say_changes() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(scene) = Scene::plan(Plan { items: 640, shard_size: 8, lease: "2s" }) else { return };
    lose_a_bundle(&scene);
    let _worker = scene.worker("only", 50);
    let dashboard = scene.dashboard(None);
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("a worker", A_WORKER);
    page.wait_for("the count", "document.getElementById('workers-more').innerText === '1 of 1 working'");
    page.wait_for("a failure", A_FAILURE);
    assert_eq!(page.evaluate("document.getElementById('links').hidden"), false, "reading is free here");
    page.evaluate("window.row = document.querySelector('#workers tr'); window.was = row.innerText;");
    page.evaluate(
        "window.failure = document.querySelector('#failures li'); window.told = failure.innerText;",
    );
    page.wait_for("other numbers", "document.querySelector('#workers tr').innerText !== was");
    assert_eq!(page.evaluate("document.querySelector('#workers tr') === row"), true);
    let same = "[...document.querySelectorAll('#failures li')].every(one => one === failure || one.innerText !== told)";
    assert_eq!(page.evaluate(same), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_lost_queue_and_a_lost_server_are_told_and_found_again() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(mut scene) = Scene::plan(Plan { items: 64, shard_size: 8, lease: "2s" }) else { return };
    let mut worker = scene.worker("only", 20);
    assert_eq!(worker.wait(), 0);
    let dashboard = scene.dashboard(None);
    let port = dashboard.port;
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("the page", "document.getElementById('percent').innerText === '100.0'");
    scene.redis.stop();
    let away = "document.getElementById('notices').innerText.includes('the queue does not answer')";
    page.wait_for("word of the queue", away);
    assert_eq!(page.text("stage"), "finished", "the store says it");
    assert_eq!(page.text("percent"), "100.0");
    scene.redis.start_again();
    let resumed = scene.coordinator("resume").output().expect(0);
    assert!(resumed.stdout().contains("8 of 8 shards"), "{}", resumed.stdout());
    page.wait_for("the queue again", "document.getElementById('notices').innerText === ''");
    assert_eq!(page.text("stage"), "finished");
    drop(dashboard);
    let gone = "document.getElementById('notices').innerText.includes('server does not answer')";
    page.wait_for("word of the server", gone);
    let _again = scene.dashboard_on(port, None);
    page.wait_for("the server again", "document.getElementById('connection').innerText.startsWith('live')");
    assert_eq!(page.text("notices"), "");
}

/// Texts whose contrast with what is behind them is less than WCAG's AA.
const FAINT: &str = r"(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => {
    const [r, g, b] = [...rgba(colour)].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return 'white';
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const style = getComputedStyle(element);
    const colour = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [low, high] = [light(colour), light(behind(element))].sort((a, b) => a - b);
    const wanted = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if ((high + 0.05) / (low + 0.05) < wanted) faint.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)}`);
  }
  return faint;
})()";

#[test]
fn it_fits_a_phone_and_can_be_read_in_both_themes() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(scene) = Scene::plan(Plan { items: 640, shard_size: 8, lease: "2s" }) else { return };
    lose_a_bundle(&scene);
    let _worker = scene.worker("only", 50);
    let dashboard = scene.dashboard(Some(TOKEN));
    let mut page = browser.open(&dashboard.url(), PHONE);
    page.wait_for("a worker", A_WORKER);
    page.wait_for("a failure", A_FAILURE);
    for look in [PHONE, Look { width: 320, ..PHONE }, DESKTOP] {
        for dark in [false, true] {
            page.look(Look { dark, ..look });
            let width = page.evaluate("document.documentElement.scrollWidth");
            assert_eq!(width, look.width, "nothing stands out to the right");
            assert_eq!(page.evaluate(FAINT), serde_json::json!([]), "dark: {dark}");
        }
    }
    let landmarks = "['header', 'main', 'footer', 'h1'].every(name => document.querySelectorAll(name).length === 1) && \
                     [...document.querySelectorAll('section')].every(part => \
                     document.getElementById(part.getAttribute('aria-labelledby')).textContent !== '') && \
                     document.querySelector('[role=progressbar]').getAttribute('aria-valuenow') !== null";
    assert_eq!(page.evaluate(landmarks), true);
    // The button goes through the themes, whatever the system prefers.
    let ground = |page: &mut Page<'_>| page.evaluate("getComputedStyle(document.body).backgroundColor");
    page.look(DESKTOP);
    let light = ground(&mut page);
    for (theme, is_light) in [("light", true), ("dark", false), ("automatic", true)] {
        page.evaluate("document.getElementById('theme').click()");
        assert_eq!(page.text("theme"), format!("Theme: {theme}"));
        assert_eq!(ground(&mut page) == light, is_light, "{theme}");
    }
    assert_eq!(browser.complaints(), [""; 0]);
}
