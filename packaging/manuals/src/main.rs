//! Writes manual pages and shell completions of every command below the folder it is given. It compiles the very files
//! that define the command lines, so that no program carries what makes its manual.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

#[path = "../../../agent/src/args.rs"]
mod agent;
#[path = "../../../coordinator/src/args.rs"]
mod coordinator;
#[expect(dead_code, reason = "only the definitions are used")]
#[path = "../../../cli/src/args.rs"]
mod swell;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("failed to read FOLDER")?;
    let commands =
        [agent::Arguments::command(), coordinator::Cli::command(), swell::Cli::command()];
    for command in commands {
        write(&folder.join(command.get_name()), command)
            .with_context(|| format!("failed to write below {}", folder.display()))?;
    }
    Ok(())
}

/// One page a verb, as `swell-rollout-halt.1`, and one completion a shell.
fn write(folder: &Path, mut command: Command) -> anyhow::Result<()> {
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, &completions)?;
    }
    Ok(())
}
