//! Every row of the reference's matching cases, on a folder and on a zip.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::images::{ImageRoots, Match, check_path};
use zip::write::SimpleFileOptions;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    why: String,
    files: Vec<String>,
    name: String,
    #[serde(rename = "match")]
    expected: Option<String>,
    #[serde(default)]
    error: bool,
    #[serde(default)]
    ambiguous: bool,
}

fn cases() -> Option<Vec<Case>> {
    let folder = std::env::var_os("EMBED_FLEET_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("reference/matching.json")) else {
        eprintln!("skipped: {} has no reference (EMBED_FLEET_SHARED names another place)", folder.display());
        return None;
    };
    let cases: Cases = serde_json::from_slice(&text).unwrap();
    assert!(cases.cases.len() >= 30);
    Some(cases.cases)
}

fn check(case: &Case, root: &Path) {
    assert_eq!(check_path(&case.name).is_err(), case.error, "{}: {}", case.why, case.name);
    if case.error {
        return;
    }
    let roots = ImageRoots::open(&[root.to_owned()]).unwrap();
    match roots.find(&case.name) {
        Match::Found(found) => {
            let expected =
                case.expected.as_ref().unwrap_or_else(|| panic!("{}: found {}", case.why, roots.path(found)));
            // Each file holds its own name, so that a hit on another one shows.
            assert_eq!(String::from_utf8(roots.read(found).unwrap()).unwrap(), *expected, "{}", case.why);
        }
        Match::Ambiguous(candidates) => {
            assert!(case.ambiguous, "{}", case.why);
            assert_eq!(candidates.len(), 2, "{}", case.why);
        }
        Match::Missing => assert!(case.expected.is_none() && !case.ambiguous, "{}", case.why),
    }
}

#[test]
fn every_case_holds_on_a_folder() {
    let Some(cases) = cases() else { return };
    for case in cases {
        let root = tempfile::tempdir().unwrap();
        for name in &case.files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        check(&case, root.path());
    }
}

#[test]
fn every_case_holds_on_a_zip() {
    let Some(cases) = cases() else { return };
    for (number, case) in cases.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let method =
            if number % 2 == 0 { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        for name in &case.files {
            zip.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        check(&case, &path);
    }
}

#[test]
fn a_link_out_of_the_root_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.png"), "secret").unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("real.png"), "real").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.png"), root.path().join("out.png")).unwrap();
    std::os::unix::fs::symlink(root.path().join("real.png"), root.path().join("in.png")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("folder")).unwrap();
    let roots = ImageRoots::open(&[root.path().to_owned()]).unwrap();
    assert_eq!(roots.find("out.png"), Match::Missing);
    assert_eq!(roots.find("folder/secret.png"), Match::Missing);
    assert!(matches!(roots.find("in.png"), Match::Found(_)));
}

#[test]
fn damage_in_a_zip_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.zip");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    for name in ["a.png", "b.png"] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&[7; 300]).unwrap();
    }
    zip.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        if let Ok(roots) = ImageRoots::open(std::slice::from_ref(&path))
            && let Match::Found(found) = roots.find("a.png")
        {
            let read = roots.read(found);
            assert!(read.is_err() || read.unwrap() == [7; 300], "byte {at}");
        }
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(ImageRoots::open(std::slice::from_ref(&path)).is_err(), "cut at {at}");
    }
}
