//! `completions` and `man`: what a shell and a reader want to know of the worker, from its definition.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_mangen::Man;
use shared::exit::ExitCode;

use super::{Cli, Failure};

/// A shell that completions are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// For which shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for every command into this folder; without it the first page is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "worker", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::Done)
}

/// Writes or prints the manual.
pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let command = Cli::command().disable_help_subcommand(true);
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
        return Ok(ExitCode::Done);
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| {
        let message = format!("cannot write manual pages into {}: {error}", folder.display());
        Failure::new(ExitCode::Unexpected, anyhow::Error::msg(message))
    })?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_how_it_is_used() {
        let mut cli = Cli::command();
        cli.build();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            let name = command.get_name();
            if command.is_hide_set() || name == "help" {
                continue;
            }
            let help = command.clone().render_long_help().to_string();
            let (_, examples) =
                help.split_once("Examples:").unwrap_or_else(|| panic!("{name} has no examples"));
            for line in examples.lines().filter(|line| line.contains("worker ")) {
                let (_, words) = line.split_once("worker ").unwrap();
                let words = words.split(['>', '|']).next().unwrap().replace('\'', "");
                let read = Cli::command().try_get_matches_from(
                    std::iter::once("worker").chain(words.split_whitespace().map(str::trim)),
                );
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
            }
        }
    }
}
