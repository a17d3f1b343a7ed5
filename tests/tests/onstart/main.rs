//! The script of a rented box (`infra/vast/onstart`), run by bash against servers on loopback: what it says,
//! fetches and destroys, and what it shows to nobody.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod scene;
mod server;
mod whole;

use tests::wait::until;

use scene::{KEY, SCRIPT, Scene, said, seconds_from_now};
use server::Trouble;

const ARGUMENTS: &str = "--device cpu --batch-tokens 64";

#[test]
fn it_fits_into_what_vast_takes() {
    assert!(SCRIPT.is_ascii());
    assert!(SCRIPT.len() < 4000, "{} of 4096 characters for onstart and args", SCRIPT.len());
}

#[test]
fn it_works_and_leaves_when_the_run_is_finished() {
    let scene = Scene::new(&["0"]);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    let calls = [format!("--check {ARGUMENTS}"), format!("--give-up-after 15m {ARGUMENTS}")];
    assert_eq!(scene.lines("calls"), calls);
    let asked = scene.server.requests("DELETE");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].what, "DELETE /api/v0/instances/4711/");
    assert_eq!(asked[0].authorization, Some(format!("Bearer {KEY}")));
    scene.assert_nothing_shown(&log);
    let cache = format!("HF_HOME={}/embed-fleet/huggingface", scene.home().display());
    let environment = scene.lines("environment");
    assert!(environment.contains(&cache) && environment.contains(&"FLEET_INSTANCE=fleet-run-0-x".to_owned()));
}

#[test]
fn nothing_left_to_do_destroys_the_box_at_once() {
    for (code, why) in [
        ("4", "leaving: only dead shards are left"),
        ("6", "leaving: no contact with the queue or the store"),
    ] {
        let mut scene = Scene::new(&[code]);
        scene.set("FLEET_GIVE_UP_AFTER", "90s");
        let log = scene.run();
        assert_eq!(said(&log), ["starting", "working", why]);
        assert!(scene.lines("calls")[1].starts_with("--give-up-after 90s "));
        assert_eq!(scene.pauses(), ["305"]);
    }
}

#[test]
fn a_wrong_setting_or_input_fails_and_stays_readable_for_a_while() {
    for code in ["2", "3"] {
        let scene = Scene::new(&[code]);
        let log = scene.run();
        let why = format!("failed (worker): exit code {code}: error: call 1 ends with {code}");
        assert_eq!(said(&log), ["starting", "working", &why, "leaving: it failed"]);
        assert_eq!(scene.pauses(), ["7", "305"], "it lingers, then leaves");
        assert_eq!(scene.lines("embed-fleet/log"), log.lines().collect::<Vec<_>>());
    }
}

/// Vast.ai sends the script's output to a file that only somebody on the box can read.
#[test]
fn what_it_says_is_told_to_the_containers_log_too() {
    let mut scene = Scene::new(&["0"]);
    let container = scene.home().join("container");
    scene.change("/proc/1/fd/1", &container.display().to_string());
    assert!(scene.run().contains("starting") && !container.exists());
    std::fs::remove_file(scene.home().join("pauses")).unwrap();
    std::fs::remove_file(scene.home().join("calls")).unwrap();
    scene.change("/var/log/onstart.log", &scene.log().display().to_string());
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    assert_eq!(std::fs::read_to_string(container).unwrap(), log);
}

#[test]
fn a_worker_that_dies_is_started_again() {
    let scene = Scene::new(&["1", "137", "1", "134", "0"]);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    assert_eq!(scene.pauses(), ["20", "30", "40", "50", "305"]);
}

#[test]
fn a_worker_that_dies_five_times_in_a_row_fails() {
    let scene = Scene::new(&["1", "1", "1", "1", "139", "0"]);
    let log = scene.run();
    let why = "failed (worker): 5 times in a row, exit code 139: error: call 5 ends with 139";
    assert_eq!(said(&log), ["starting", "working", why, "leaving: it failed"]);
    assert_eq!(scene.pauses(), ["20", "30", "40", "50", "7", "305"]);
}

#[test]
fn a_worker_that_was_ready_may_find_its_user_again() {
    let scene = Scene::new(&["ready-1", "2", "2", "0"]);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
}

#[test]
fn a_worker_that_held_out_for_a_while_is_forgiven() {
    let mut scene = Scene::new(&["1", "1", "1", "1", "1", "1", "0"]);
    scene.change("SECONDS - began < 60", "SECONDS - began < 0");
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
}

#[test]
fn a_second_start_fetches_nothing() {
    let scene = Scene::new(&["hang", "0"]);
    let first = scene.start();
    until("the first worker", || (scene.lines("calls").len() == 2).then_some(()));
    drop(first);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    assert_eq!(scene.server.requests("GET").len(), 1);
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let scene = Scene::new(&["0"]);
    scene.server.trouble(&[
        Trouble::Busy,
        Trouble::BreakAfter(100),
        Trouble::HangUp,
        Trouble::BreakAfter(50),
    ]);
    let log = scene.run();
    assert_eq!(said(&log).last(), Some(&"leaving: the run is finished or draining"), "{log}");
    let starts: Vec<_> = scene.server.requests("GET").iter().map(|request| request.start).collect();
    assert_eq!(starts, [None, None, Some(100), Some(100), Some(150)]);
    assert_eq!(scene.pauses(), ["2", "4", "6", "8", "305"]);
    scene.assert_nothing_shown(&log);
}

#[test]
fn a_whole_file_left_by_a_box_that_was_stopped_is_unpacked() {
    let scene = Scene::new(&["0"]);
    let folder = scene.home().join("embed-fleet");
    std::fs::create_dir(&folder).unwrap();
    let program = std::fs::read(scene.home().parent().unwrap().join("packed")).unwrap();
    std::fs::write(folder.join("worker.gz"), scene::gzip(scene.home().parent().unwrap(), &program)).unwrap();
    let log = scene.run();
    assert_eq!(said(&log).last(), Some(&"leaving: the run is finished or draining"), "{log}");
    assert!(folder.join("worker").exists() && !folder.join("worker.gz").exists());
}

#[test]
fn wrong_bytes_are_fetched_anew_and_never_run() {
    // Left by an earlier start: the wrong program, and a piece of another file, short or longer than this one.
    for left in [30, 100_000] {
        let scene = Scene::new(&["0"]);
        let folder = scene.home().join("embed-fleet");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("worker"), "#!/bin/sh\nexit 0\n").unwrap();
        std::fs::write(folder.join("worker.gz"), vec![7; left]).unwrap();
        let log = scene.run();
        assert_eq!(said(&log).last(), Some(&"leaving: the run is finished or draining"), "{log}");
        let starts: Vec<_> = scene.server.requests("GET").iter().map(|request| request.start).collect();
        assert_eq!(starts, [Some(left), None]);
    }

    let scene = Scene::new(&["0"]);
    scene.server.serve(scene::gzip(scene.home().parent().unwrap(), b"#!/bin/sh\ntouch $HOME/calls\n"));
    let log = scene.run();
    let why = "failed (download): its sha256 is not FLEET_WORKER_SHA256";
    assert_eq!(said(&log), ["starting", why, "leaving: it failed"]);
    assert_eq!(scene.server.requests("GET").len(), 3);
    assert_eq!(scene.lines("calls"), Vec::<String>::new());
}

#[test]
fn a_download_is_given_up_in_the_end() {
    let mut scene = Scene::new(&["0"]);
    scene.change("SECONDS + 600", "SECONDS + 1");
    scene.server.trouble(&[Trouble::Busy; 1000]);
    let running = scene.start();
    let log = running.wait_for("leaving");
    let said = said(&log);
    assert!(said[1].starts_with("failed (download): curl: (22)") && said[1].contains("503"), "{log}");
    assert!(scene.server.requests("GET").len() > 1);
    scene.assert_nothing_shown(&log);
}

#[test]
fn a_worker_on_the_path_needs_no_download() {
    let mut scene = Scene::new(&["0"]);
    scene.unset("FLEET_WORKER_URL");
    scene.unset("FLEET_WORKER_SHA256");
    let log = scene.run();
    let why = "failed (download): no FLEET_WORKER_URL, no worker on the path";
    assert_eq!(said(&log), ["starting", why, "leaving: it failed"]);
    std::fs::remove_file(scene.home().join("pauses")).unwrap();
    scene.worker_on_path();
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    assert_eq!(scene.server.requests("GET"), []);
}

/// The image has no curl, and the package server does not answer at once.
#[test]
fn a_box_without_curl_installs_it() {
    let mut scene = Scene::new(&["0"]);
    let curl = scene.hide("curl");
    let install = format!(
        "#!/bin/sh\necho \"$*\" >>\"$HOME/installed\"\n[ \"$(wc -l <\"$HOME/installed\")\" -lt 3 ] && exit 100\n\
         [ \"$1\" = install ] && ln -s {curl} \"$(dirname \"$0\")/curl\"\nexit 0\n"
    );
    scene.command("apt-get", &install);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"]);
    let asked = ["update", "update", "update", "install -y curl ca-certificates"];
    assert_eq!(scene.lines("installed"), asked);
    assert_eq!(scene.pauses(), ["2", "4", "305"]);
}

#[test]
fn a_device_that_computes_wrongly_fails_the_check() {
    let scene = Scene::new(&["0"]);
    std::fs::write(scene.home().join("check"), "1").unwrap();
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "failed (check): exit code 1: ", "leaving: it failed"]);
    assert_eq!(scene.lines("calls").len(), 1);
    assert!(log.contains("\nchecked\n"));
}

#[test]
fn a_driver_is_needed_for_a_gpu() {
    let library = "echo '\tlibcuda.so.1 (libc6,x86-64) => /lib/libcuda.so.1'";
    let old = "failed (check): no driver of 580 or newer: ";
    for (driver, libraries, why) in [
        ("echo 550.54.14", library, format!("{old}550.54.14")),
        ("echo 5800.1", library, format!("{old}5800.1")),
        ("echo 'No devices were found'; exit 6", library, format!("{old}No devices were found")),
        ("echo 580.95.05", "true", "failed (check): libcuda.so.1 is missing".to_owned()),
    ] {
        let mut scene = Scene::new(&["0"]);
        scene.unset("FLEET_WORKER_ARGS");
        scene.command("nvidia-smi", &format!("#!/bin/sh\n{driver}\n"));
        scene.command("ldconfig", &format!("#!/bin/sh\n{libraries}\n"));
        let log = scene.run();
        assert_eq!(said(&log), ["starting", &why, "leaving: it failed"]);
        assert_eq!(scene.lines("calls"), Vec::<String>::new());
    }
    let mut scene = Scene::new(&["0"]);
    scene.unset("FLEET_WORKER_ARGS");
    scene.command("nvidia-smi", "#!/bin/sh\necho 610.4; echo 610.4\n");
    scene.command("ldconfig", &format!("#!/bin/sh\n{library}\n"));
    assert_eq!(said(&scene.run())[1], "working");
    assert_eq!(scene.lines("calls")[0], "--check --device cuda:all");
}

#[test]
fn past_its_time_a_box_is_destroyed_at_once() {
    let mut scene = Scene::new(&["0"]);
    for until in [Some(seconds_from_now(-5)), Some("tomorrow".to_owned()), None] {
        scene.unset("FLEET_UNTIL");
        if let Some(until) = until {
            scene.set("FLEET_UNTIL", &until);
        }
        let log = scene.run();
        assert_eq!(said(&log), ["starting", "leaving: its time is over"]);
        std::fs::remove_file(scene.home().join("pauses")).unwrap();
    }
    assert_eq!(scene.server.requests("GET"), []);
    assert_eq!(scene.server.requests("DELETE").len(), 3);
}

#[test]
fn the_watchdog_destroys_a_box_whose_worker_hangs() {
    let mut scene = Scene::new(&["hang"]);
    scene.set("FLEET_UNTIL", &seconds_from_now(3));
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: its time is over"]);
    assert_eq!(scene.server.requests("DELETE").len(), 1);
    scene.assert_nothing_shown(&log);
}

#[test]
fn a_delete_that_fails_is_repeated() {
    let mut scene = Scene::new(&["0"]);
    scene.unset("FLEET_WORKER_URL");
    scene.worker_on_path();
    scene.server.trouble(&[Trouble::Busy, Trouble::HangUp]);
    let log = scene.run();
    assert_eq!(scene.server.requests("DELETE").len(), 3);
    assert_eq!(scene.pauses(), ["5", "10", "305"]);
    let said = said(&log);
    assert_eq!(said[2], "leaving: the run is finished or draining");
    assert!(said[3].starts_with("not destroyed yet: curl: (22)") && said[3].contains("503"), "{log}");
    assert!(said[4].starts_with("not destroyed yet: curl: (52)"), "{log}");
    assert_eq!(said.len(), 5);
    scene.assert_nothing_shown(&log);
}

#[test]
fn a_box_without_a_key_says_so_and_stays() {
    let mut scene = Scene::new(&["0"]);
    scene.unset("CONTAINER_API_KEY");
    let running = scene.start();
    let log = running.wait_for("CONTAINER_API_KEY");
    assert_eq!(
        said(&log)[2..],
        ["leaving: the run is finished or draining", "no CONTAINER_API_KEY to destroy this box with"]
    );
    until("the box to sleep", || scene.lines("pauses").contains(&"infinity".to_owned()).then_some(()));
    assert_eq!(scene.server.requests("DELETE"), []);
}

#[test]
fn a_box_that_is_stopped_lets_its_worker_give_its_leases_back() {
    let scene = Scene::new(&["term"]);
    let mut running = scene.start();
    running.wait_for("working");
    until("the worker", || (scene.lines("calls").len() == 2).then_some(()));
    // The trap stands from the moment at which the worker sleeps.
    until("its trap", || scene.lines("pauses").contains(&"infinity".to_owned()).then_some(()));
    assert_eq!(running.terminate(), Some(143));
    running.wait_for("leases are given back");
    assert_eq!(scene.server.requests("DELETE"), []);
}
