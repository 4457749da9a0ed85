//! The demo's screen: lines that stay, above a block that is redrawn on a terminal. Elsewhere only the
//! lines. Draws what it is given.

use std::io::{self, IsTerminal as _, Write};

use groundswell_common::report::HostState;

use crate::follow::{colours, is_wide};
use crate::output::Out;

/// Hosts in one row of the map.
const HOSTS_A_ROW: usize = 20;
/// Colours of the releases, in the order in which they were published.
const COLOURS: [&str; 3] = ["34", "32", "31"];

/// Where the demo is shown.
pub(super) struct Screen {
    to: Box<dyn Write + Send>,
    /// Whether there is a block that is redrawn.
    pub(super) terminal: bool,
    colours: bool,
    drawn: usize,
}

impl Screen {
    /// The screen: stdout, or stderr where stdout is for a program.
    pub(super) fn new(out: Out) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let terminal = !out.json && stdout.is_terminal() && is_wide(&stdout);
        let to: Box<dyn Write + Send> = if out.json { Box::new(stderr) } else { Box::new(stdout) };
        Self { to, terminal, colours: terminal && colours(), drawn: 0 }
    }

    /// Prints a line that stays.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.erase()?;
        writeln!(self.to, "{text}")?;
        self.to.flush()
    }

    /// Draws the block below the lines; nothing where there is no terminal.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        if !self.terminal {
            return Ok(());
        }
        self.erase()?;
        for line in lines {
            writeln!(self.to, "{line}")?;
        }
        self.drawn = lines.len();
        self.to.flush()
    }

    /// Lets the block stand as it is, as lines.
    pub(super) fn keep_block(&mut self) {
        self.drawn = 0;
    }

    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.to, "\x1b[{}A\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    /// The fleet: a cell a host, coloured by the version that it answers with, shaped by its state.
    pub(super) fn map(&self, cells: &[Cell<'_>], versions: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        for row in cells.chunks(HOSTS_A_ROW) {
            let names = row.iter().map(|cell| format!(" {:>2}", short(cell.name)));
            lines.push(format!("  hosts {}", names.collect::<String>()));
            let shapes = row.iter().map(|cell| {
                let version = cell.version.and_then(|v| versions.iter().position(|w| *w == v));
                format!(" {}", self.paint(version, shape(cell)))
            });
            lines.push(format!("        {}", shapes.collect::<String>()));
        }
        let legend = versions
            .iter()
            .enumerate()
            .map(|(at, version)| format!("{} {version}", self.paint(Some(at), "██")));
        let legend = legend.collect::<Vec<_>>().join("  ");
        lines.push(format!("         {legend}  ▒▒ in flight  ×× failed  ·· nothing"));
        lines
    }

    fn paint(&self, version: Option<usize>, text: &str) -> String {
        match version.and_then(|at| COLOURS.get(at)).filter(|_| self.colours) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// One host of the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What it answers with.
    pub(super) version: Option<&'a str>,
    /// What it says that it does.
    pub(super) state: Option<HostState>,
    /// Whether the release that it was asked to run last failed on it.
    pub(super) failed: bool,
}

fn short(name: &str) -> &str {
    name.rsplit('-').next().unwrap_or(name)
}

fn shape(cell: &Cell<'_>) -> &'static str {
    match cell.state {
        Some(HostState::Switching | HostState::Probing | HostState::Baking) => "▒▒",
        Some(HostState::Reverting | HostState::Stuck) => "××",
        _ if cell.version.is_none() => "··",
        _ if cell.failed => "×█",
        Some(HostState::Idle | HostState::Fetching | HostState::Staged | HostState::Committed)
        | None => "██",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_shaped_by_its_state_and_rows_are_bounded() {
        let cell = Cell { name: "web-07", version: Some("1.0.0"), state: None, failed: false };
        assert_eq!(shape(&cell), "██");
        assert_eq!(shape(&Cell { version: None, ..cell }), "··");
        assert_eq!(shape(&Cell { state: Some(HostState::Baking), ..cell }), "▒▒");
        assert_eq!(shape(&Cell { state: Some(HostState::Reverting), ..cell }), "××");
        let screen = Screen { to: Box::new(io::sink()), terminal: false, colours: false, drawn: 0 };
        let lines = screen.map(&[cell; 64], &["1.0.0", "1.1.0", "2.0.0"]);
        assert_eq!(lines.len(), 2 * 4 + 1);
        assert!(lines.iter().all(|line| line.chars().count() <= 79), "{lines:?}");
        assert!(lines[0].starts_with("  hosts  07 07"), "{}", lines[0]);
    }
}
