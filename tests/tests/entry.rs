//! The entry script of the CUDA image: a missing or old driver is told in plain words, before the worker
//! is started.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A folder of commands that print something.
fn commands(list: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in list {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The script needs these; nothing else of this machine is seen.
    for name in ["bash", "head", "grep"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(found.trim(), folder.path().join(name)).unwrap();
    }
    folder
}

/// Exit code, standard output and standard error of the script with these commands alone.
fn enter(list: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = commands(list);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/docker/worker-entry");
    let output = Command::new(folder.path().join("bash"))
        .arg(script)
        .args(["--run", "a run"])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const WORKER: (&str, &str) = ("worker", "echo \"started with $# arguments: $2\"");
const LIBRARY: (&str, &str) = ("ldconfig", "echo '\tlibcuda.so.1 (libc6,x86-64) => /lib/libcuda.so.1'");

#[test]
fn a_driver_that_is_new_enough_starts_the_worker() {
    let (code, out, err) = enter(&[("nvidia-smi", "echo 580.95.05; echo 580.95.05"), LIBRARY, WORKER]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "started with 2 arguments: a run\n", ""));
}

#[test]
fn a_missing_driver_is_told() {
    let (code, out, err) = enter(&[LIBRARY, WORKER]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("no NVIDIA driver") && err.contains("--gpus all"), "{err}");
}

#[test]
fn an_old_driver_is_told_with_both_versions() {
    let (code, _, err) = enter(&[("nvidia-smi", "echo 550.54.14"), LIBRARY, WORKER]);
    assert_eq!(code, Some(1));
    assert!(err.contains("550.54.14") && err.contains("580"), "{err}");
}

#[test]
fn a_driver_without_devices_is_told_in_its_own_words() {
    let (code, _, err) = enter(&[("nvidia-smi", "echo 'No devices were found'"), LIBRARY, WORKER]);
    assert_eq!(code, Some(1));
    assert!(err.contains("No devices were found"), "{err}");
    let failing = ("nvidia-smi", "echo \"couldn't communicate with the NVIDIA driver\"; exit 9");
    let (code, _, err) = enter(&[failing, LIBRARY, WORKER]);
    assert_eq!(code, Some(1));
    assert!(err.contains("couldn't communicate"), "{err}");
}

#[test]
fn a_driver_without_its_compute_library_is_told() {
    let (code, _, err) = enter(&[("nvidia-smi", "echo 580.95.05"), ("ldconfig", "true"), WORKER]);
    assert_eq!(code, Some(1));
    assert!(err.contains("libcuda.so.1") && err.contains("compute"), "{err}");
}
