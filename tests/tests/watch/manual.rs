//! Completions and manual pages come out, and hold every command.

use std::collections::BTreeSet;

use tempfile::TempDir;
use tests::program::Program;

/// The commands that the help lists.
fn commands(program: fn(&std::path::Path) -> Program) -> BTreeSet<String> {
    let folder = TempDir::new().unwrap();
    let help = program(folder.path()).args(["--help"]).output().expect(0).stdout();
    let (_, list) = help.split_once("Commands:").unwrap();
    let names = list.lines().skip(1).take_while(|line| !line.trim().is_empty());
    names
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

fn check_completions(program: fn(&std::path::Path) -> Program, fewest: usize) {
    let folder = TempDir::new().unwrap();
    let commands = commands(program);
    assert!(commands.len() >= fewest, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = program(folder.path()).args(["completions", shell]).output().expect(0).stdout();
        for command in &commands {
            assert!(script.contains(command.as_str()), "{command} for {shell}");
        }
        let mut checker = std::process::Command::new(shell);
        let path = folder.path().join(shell);
        std::fs::write(&path, script).unwrap();
        match checker.arg("-n").arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => eprintln!("skipped: {shell} is not installed, so that its script was not parsed"),
        }
    }
    let _ = program(folder.path()).args(["completions", "tcsh"]).output().expect(2);
}

#[test]
fn completions_hold_every_command() {
    check_completions(Program::coordinator, 18);
    check_completions(Program::worker, 3);
}

fn check_manual(program: fn(&std::path::Path) -> Program, name: &str) {
    let folder = TempDir::new().unwrap();
    let first = program(folder.path()).args(["man"]).output().expect(0).stdout();
    assert!(first.contains(&format!(".TH {name} 1")), "{first}");
    let _ = program(folder.path()).args(["man", "pages/man1"]).output().expect(0);
    for command in commands(program) {
        let page = folder.path().join(format!("pages/man1/{name}-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(page.contains("Examples:"), "{command}");
    }
    // Not a folder.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let refused = program(folder.path()).args(["man", "file"]).output().expect(1);
    assert!(refused.stderr().contains("cannot write manual pages into file"), "{}", refused.stderr());
}

#[test]
fn every_command_has_a_manual_page() {
    check_manual(Program::coordinator, "coordinator");
    check_manual(Program::worker, "worker");
}
