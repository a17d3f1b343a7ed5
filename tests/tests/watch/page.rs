//! The page in a browser: a run from 0 to 100 % with a worker killed in between, orders, lost connections.

use tests::browser::{Browser, Look, Page};
use tests::watched::{Plan, Scene};

const TOKEN: &str = "a token nobody guesses";
const DESKTOP: Look = Look { width: 1280, height: 900, scale: 1.0, dark: false, phone: false };
const PHONE: Look = Look { width: 375, height: 740, scale: 2.0, dark: false, phone: true };

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
    tests::wait::until("the end", || {
        let now = percent(&mut page);
        if now > *seen.last().unwrap() {
            seen.push(now);
        }
        assert!(now >= *seen.last().unwrap(), "{now} after {seen:?}");
        if !dead && now > 10.0 {
            assert_eq!(page.evaluate("document.querySelectorAll('#workers tr').length"), 2);
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
    page.evaluate("document.querySelector('[data-order=drain]').click()");
    page.press("Escape", 27);
    page.wait_for("the dialog to close", "!document.getElementById('ask').open");
    assert_eq!(scene.status()["state"], "running");
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
    // A shard whose bundle is gone: there is something among the failures.
    let bundle = std::fs::read_dir(scene.run_folder().join("inputs")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(bundle.path()).unwrap();
    let _worker = scene.worker("only", 50);
    let dashboard = scene.dashboard(Some(TOKEN));
    let mut page = browser.open(&dashboard.url(), PHONE);
    page.wait_for(
        "a worker and a failure",
        "document.querySelectorAll('#workers tr, #failures li').length >= 2",
    );
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
