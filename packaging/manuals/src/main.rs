//! Writes the manual pages and shell completions of every package below the folder it is given, laid out as
//! below /usr/share. It compiles the very files that define the command lines, so that no program carries what
//! makes its manual.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

#[path = "../../../agent/src/args.rs"]
mod agent;
#[path = "../../../coordinator/src/args.rs"]
mod coordinator;
#[path = "../../../cli/src/args.rs"]
mod swell;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("failed to read FOLDER")?;
    for (package, command) in [
        ("groundswell-agent", agent::Arguments::command()),
        ("groundswell-coordinator", coordinator::Cli::command()),
        ("groundswell-cli", swell::Cli::command()),
    ] {
        let share = folder.join(package);
        write(&share, command).with_context(|| format!("failed to write {}", share.display()))?;
    }
    Ok(())
}

/// One page a verb, as `swell-rollout-halt.1`, and one completion a shell.
fn write(share: &Path, mut command: Command) -> anyhow::Result<()> {
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    let name = command.get_name().to_owned();
    for (shell, folder, file) in [
        (Shell::Bash, "bash-completion/completions", name.clone()),
        (Shell::Zsh, "zsh/vendor-completions", format!("_{name}")),
        (Shell::Fish, "fish/vendor_completions.d", format!("{name}.fish")),
    ] {
        fs::create_dir_all(share.join(folder))?;
        let mut file = File::create(share.join(folder).join(file))?;
        clap_complete::generate(shell, &mut command, &name, &mut file);
    }
    Ok(())
}
