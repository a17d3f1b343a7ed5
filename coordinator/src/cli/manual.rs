//! `completions` and `man`: what a shell and a reader want to know of the commands, from their definition.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_mangen::Man;
use shared::exit::ExitCode;

use super::Cli;
use crate::failure::Failure;

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

/// Prints what completes the commands.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coordinator", &mut script);
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
    use clap::CommandFactory as _;

    use super::super::Cli;

    #[test]
    fn every_command_says_what_it_does_and_how() {
        let mut cli = Cli::command();
        cli.build();
        let shown: Vec<_> = cli
            .get_subcommands()
            .filter(|command| !command.is_hide_set() && command.get_name() != "help")
            .collect();
        assert!(shown.len() >= 18, "{}", shown.len());
        for command in shown {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let help = command.clone().render_long_help().to_string();
            let (_, examples) =
                help.split_once("Examples:").unwrap_or_else(|| panic!("{name} has no examples"));
            assert!(examples.contains(&format!("coordinator {name}")), "{name}: {examples}");
        }
    }

    /// An example that is refused helps nobody.
    #[test]
    fn every_example_is_understood() {
        let mut cli = Cli::command();
        cli.build();
        let mut tried = 0;
        for command in cli.get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            let examples = help.split_once("Examples:").map_or("", |(_, examples)| examples);
            for line in examples.lines().filter(|line| line.contains("coordinator ")) {
                for part in line.split("&&").filter(|part| part.contains("coordinator ")) {
                    let (_, words) = part.split_once("coordinator ").unwrap();
                    let words = words.split("  ").next().unwrap().split([')', '|', '>']).next().unwrap();
                    let words = words.replace(['\'', '"'], "");
                    let words = std::iter::once("coordinator").chain(words.split_whitespace());
                    let read = Cli::command().try_get_matches_from(words);
                    assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
                    tried += 1;
                }
            }
        }
        assert!(tried >= 30, "{tried}");
    }
}
