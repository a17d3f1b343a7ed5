//! `completions`: what completes the worker's commands in a shell.

use std::io::Write as _;

use clap::{Args, CommandFactory as _, ValueEnum};
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
                let words = words.split('>').next().unwrap().replace('\'', "");
                let read = Cli::command().try_get_matches_from(
                    std::iter::once("worker").chain(words.split_whitespace().map(str::trim)),
                );
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
            }
        }
    }
}
