//! Following a rollout to its end by its event stream, and showing it: a block that is redrawn on a
//! terminal, a line a change elsewhere. Each event is the whole state, so a broken stream costs time only.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use groundswell_common::api::{
    HostCounts, OutcomeName, PhaseName, RolloutPage, RolloutSummary, WavePage,
};
use groundswell_common::{RolloutId, name_of};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Client, ClientError, part};
use crate::exit::Exit;
use crate::output::{clean, cut, now, place, utc};

/// Wait before a broken stream is opened again.
const REOPEN_MS: u64 = 500;
/// Tries in a row after which a coordinator that has not been heard at all counts as unreachable. Once
/// it was heard, it is waited for until the time that was given is over: a restart ends no job.
const REOPEN_MAX: u32 = 20;
/// How long a rollout may stand halted before `--wait` gives up on it: a revert follows at once or not.
const HALT_SETTLES_MS: u64 = 3_000;
/// Columns that a block of progress takes at most.
const COLUMNS: usize = 79;
/// Cells of one wave's bar.
const BAR_CELLS: usize = 24;

/// What ends the following besides the rollout's end and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Only its end.
    Done,
    /// Also a halt that no revert follows: for jobs, where nobody is there to resume.
    DoneOrHalted,
}

/// What is seen while a rollout is followed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// It stands otherwise than before.
    Page(&'a RolloutPage),
    /// The coordinator cannot be heard; said once.
    Away(&'a ClientError),
    /// It is heard again.
    Back,
}

/// Follows a rollout; `None` when the time was over first.
pub(crate) async fn follow(
    client: &Client,
    rollout: &RolloutId,
    (until, within): (Until, Duration),
    mut see: impl FnMut(Seen<'_>) -> io::Result<()>,
) -> anyhow::Result<Option<RolloutPage>> {
    let end = Instant::now() + within;
    let path = format!("/v1/rollouts/{}/watch", part(rollout.as_str()));
    let mut last: Option<RolloutPage> = None;
    let mut halted: Option<Instant> = None;
    // A job's rollout was answered a moment ago, by the coordinator that is asked now.
    let mut link = Link { failures: 0, heard: until == Until::DoneOrHalted };
    loop {
        if halted.is_some_and(|since| Instant::now() >= settled(since)) {
            return Ok(last);
        }
        let mut stream = match timeout_at(end, client.events(&path)).await {
            Err(_) => return Ok(None),
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                link.broken(error, &mut see)?;
                pause(end).await;
                continue;
            }
        };
        loop {
            let patience = halted.map_or(end, |since| end.min(settled(since)));
            let page = match timeout_at(patience, stream.next::<RolloutPage>()).await {
                Err(_) if halted.is_some_and(|since| Instant::now() >= settled(since)) => {
                    return Ok(last);
                }
                Err(_) => return Ok(None),
                Ok(Ok(Some(page))) => page,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    link.broken(error, &mut see)?;
                    break;
                }
            };
            link.whole(&mut see)?;
            if last.as_ref() != Some(&page) {
                see(Seen::Page(&page))?;
            }
            halted = match (until, page.rollout.phase) {
                (Until::DoneOrHalted, PhaseName::Halted) => halted.or(Some(Instant::now())),
                _ => None,
            };
            if page.rollout.phase == PhaseName::Done {
                return Ok(Some(page));
            }
            last = Some(page);
        }
        pause(end).await;
    }
}

async fn pause(end: Instant) {
    sleep_until(end.min(Instant::now() + Duration::from_millis(REOPEN_MS))).await;
}

/// Whether the coordinator is heard.
struct Link {
    failures: u32,
    heard: bool,
}

impl Link {
    /// Passes on what no second try would mend, and the rest where nothing was ever heard.
    fn broken(
        &mut self,
        error: ClientError,
        see: &mut impl FnMut(Seen<'_>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.failures += 1;
        if !error.passes() || (!self.heard && self.failures >= REOPEN_MAX) {
            return Err(error.into());
        }
        if self.failures == 1 {
            see(Seen::Away(&error))?;
        }
        Ok(())
    }

    fn whole(&mut self, see: &mut impl FnMut(Seen<'_>) -> io::Result<()>) -> io::Result<()> {
        self.heard = true;
        if std::mem::take(&mut self.failures) > 0 { see(Seen::Back) } else { Ok(()) }
    }
}

fn settled(halted: Instant) -> Instant {
    halted + Duration::from_millis(HALT_SETTLES_MS)
}

/// The exit code of a rollout that is over or halted.
pub(crate) fn exit_of(rollout: &RolloutSummary) -> Exit {
    match (rollout.phase, rollout.outcome) {
        (PhaseName::Done, Some(OutcomeName::Completed)) => Exit::Done,
        _ => Exit::Ended,
    }
}

/// Shows a rollout's progress on stderr.
#[derive(Debug)]
pub(crate) struct Live {
    terminal: bool,
    colours: bool,
    drawn: usize,
    said: String,
    told: String,
}

impl Live {
    /// A view that redraws itself where stderr is a wide enough terminal.
    pub(crate) fn on_stderr() -> Self {
        let stderr = io::stderr();
        let terminal = stderr.is_terminal() && is_wide(&stderr);
        Self {
            terminal,
            colours: terminal && colours(),
            drawn: 0,
            said: String::new(),
            told: String::new(),
        }
    }

    /// Shows what was seen.
    pub(crate) fn see(&mut self, seen: Seen<'_>) -> io::Result<()> {
        match seen {
            Seen::Page(page) => self.show(page),
            Seen::Away(error) => self.say(&away_text(error)),
            Seen::Back => self.say("the coordinator is back"),
        }
    }

    /// A line that stays, with its moment where it may stand in a log.
    fn say(&mut self, line: &str) -> io::Result<()> {
        self.drawn = 0;
        let mut stderr = io::stderr().lock();
        if self.terminal {
            return writeln!(stderr, "{line}");
        }
        writeln!(stderr, "{} {line}", utc(now()))
    }

    /// As [`Live::say`], where it was not what was said last.
    pub(crate) fn say_once(&mut self, line: &str) -> io::Result<()> {
        if self.told == line {
            return Ok(());
        }
        line.clone_into(&mut self.told);
        self.say(line)
    }

    fn show(&mut self, page: &RolloutPage) -> io::Result<()> {
        if !self.terminal {
            let line = log_line(page);
            if line != self.said {
                self.say(&line)?;
                self.said = line;
            }
            return Ok(());
        }
        let mut stderr = io::stderr().lock();
        let lines = block(page, self.colours);
        if self.drawn > 0 {
            write!(stderr, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        for line in &lines {
            writeln!(stderr, "{line}")?;
        }
        self.drawn = lines.len();
        stderr.flush()
    }
}

/// Whether a terminal is wide enough for a block that is redrawn.
pub(crate) fn is_wide(stream: &impl std::os::fd::AsFd) -> bool {
    rustix::termios::tcgetwinsize(stream).is_ok_and(|size| usize::from(size.ws_col) > COLUMNS)
}

/// Whether the user wants colours.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What is said of a coordinator that cannot be heard.
pub(crate) fn away_text(error: &ClientError) -> String {
    let why = clean(&groundswell_common::chain(error));
    format!(
        "the coordinator is away (failed to {why}); hosts keep what they run and nothing new switches; \
         waiting for it"
    )
}

/// One line of a log: where the rollout stands, and what a silence after it means.
fn log_line(page: &RolloutPage) -> String {
    let mut line = summary_line(page);
    if page.rollout.phase != PhaseName::Done {
        let told = page.rollout.why.as_deref();
        for why in page.why.iter().filter(|why| Some(why.as_str()) != told) {
            // How many hosts of an open wave are where stands in the line already, and seconds that
            // count down would make a line of each.
            let why = why.split(" (").next().filter(|_| why.contains(" s left)")).unwrap_or(why);
            if !why.contains(" is open: ") {
                line.push_str("; ");
                line.push_str(&clean(why));
            }
        }
    }
    line
}

/// One line that says where a rollout stands.
pub(crate) fn summary_line(page: &RolloutPage) -> String {
    let rollout = &page.rollout;
    let counts = counts_text(&rollout.counts);
    let mut line = format!("{} {}: {counts}", title(rollout), standing(page));
    if let Some(why) = beyond(page) {
        line.push_str("; ");
        line.push_str(&why);
    }
    line
}

/// Why a rollout stands where it does, without the word that [`standing`] says: "since 1 host failed".
pub(crate) fn beyond(page: &RolloutPage) -> Option<String> {
    let (why, said) = (clean(page.rollout.why.as_deref()?), format!("{}, ", standing(page)));
    Some(why.strip_prefix(&said).map_or(why.clone(), str::to_owned))
}

fn title(rollout: &RolloutSummary) -> String {
    let place = place(rollout.environment.as_ref());
    format!("{} {}{place} ({})", rollout.service, rollout.version, rollout.rollout)
}

/// The phase in words, with the wave where one is open.
pub(crate) fn standing(page: &RolloutPage) -> String {
    let phase = name_of(&page.rollout.phase);
    let wave = usize::try_from(page.rollout.wave).unwrap_or(usize::MAX);
    match (page.rollout.phase, page.rollout.outcome, page.waves.get(wave)) {
        (PhaseName::Done, Some(outcome), _) => name_of(&outcome),
        (PhaseName::Done, None, _) | (PhaseName::Queued | PhaseName::Reverting, _, _) => phase,
        (_, _, Some(wave_page)) => {
            format!("{phase}, wave {} of {} ({})", wave + 1, page.waves.len(), wave_page.name)
        }
        (_, _, None) => phase,
    }
}

/// The counts that are not zero.
pub(crate) fn counts_text(counts: &HostCounts) -> String {
    let mut parts = vec![format!("{} of {} committed", counts.committed, counts.hosts)];
    for (count, name) in [
        (counts.staging, "staging"),
        (counts.in_flight, "in flight"),
        (counts.held, "held"),
        (counts.failed, "failed"),
        (counts.reverting, "going back"),
        (counts.reverted, "reverted"),
        (counts.absent, "absent"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.join(", ")
}

/// The block of lines that a terminal shows.
fn block(page: &RolloutPage, colours: bool) -> Vec<String> {
    let mut lines = vec![cut(&format!("{}: {}", title(&page.rollout), standing(page)), COLUMNS)];
    lines.extend(page.waves.iter().map(|wave| wave_line(wave, colours)));
    let why = page.rollout.why.iter().chain(&page.why).next();
    if let Some(why) = why.filter(|_| page.rollout.phase != PhaseName::Done) {
        lines.push(cut(&format!("  {}", clean(why)), COLUMNS));
    }
    lines
}

/// One wave: its name, a bar, its counts.
pub(crate) fn wave_line(wave: &WavePage, colours: bool) -> String {
    let counts = &wave.counts;
    let cells = |count: u64| {
        let share = u128::from(count) * BAR_CELLS as u128 / u128::from(counts.hosts.max(1));
        usize::try_from(share).unwrap_or(BAR_CELLS).min(BAR_CELLS)
    };
    let (bad, done) =
        (cells(counts.failed + counts.reverting + counts.reverted), cells(counts.committed));
    let busy = cells(counts.in_flight).min(BAR_CELLS - (bad + done).min(BAR_CELLS));
    let rest = BAR_CELLS.saturating_sub(bad + done + busy);
    let paint = |code: &str, cell: &str, count: usize| {
        let text = cell.repeat(count);
        if colours && count > 0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    };
    let bar = [
        paint("32", "█", done),
        paint("33", "▒", busy),
        paint("31", "×", bad),
        paint("2", "·", rest),
    ]
    .concat();
    let name = cut(&clean(&wave.name), 12);
    format!("  {name:<12} {bar} {}", cut(&counts_text(counts), COLUMNS - 16 - BAR_CELLS))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A page of a rollout whose second wave is open.
    pub(crate) fn page() -> RolloutPage {
        let digest = "00".repeat(32);
        let counts = |hosts: u64, committed: u64, in_flight: u64| {
            serde_json::json!({"hosts": hosts, "pending": hosts - committed - in_flight,
                "staging": 0, "in_flight": in_flight, "committed": committed, "failed": 0,
                "reverted": 0, "absent": 0})
        };
        let wave = |name: &str, counts: serde_json::Value| {
            let (budget, approvals) = (0, 0);
            serde_json::json!({"name": name, "counts": counts, "failure_budget": budget,
                "approvals": approvals})
        };
        serde_json::from_value(serde_json::json!({
            "rollout": {"rollout": "shop-2", "service": "shop", "release": digest,
                "version": "1.1.0", "phase": "running", "outcome": null, "why": null,
                "plan": digest, "started": 0, "changed": 0, "wave": 1,
                "counts": counts(12, 2, 1)},
            "waves": [wave("canary", counts(1, 1, 0)), wave("25 %", counts(3, 1, 1)),
                wave("everyone", counts(8, 0, 0))],
            "why": ["wave 2: 1 host has not baked yet"], "ask": null, "hosts": []
        }))
        .expect("page")
    }

    #[test]
    fn a_rollout_is_told_in_one_line() {
        assert_eq!(
            summary_line(&page()),
            "shop 1.1.0 (shop-2) running, wave 2 of 3 (25 %): 2 of 12 committed, 1 in flight"
        );
        let mut done = page();
        done.rollout.phase = PhaseName::Done;
        done.rollout.outcome = Some(OutcomeName::Reverted);
        done.rollout.why = Some("reverted, since 1 host failed".into());
        assert!(summary_line(&done).ends_with("; since 1 host failed"), "{}", summary_line(&done));
        done.rollout.why = Some("probe\nfailed".into());
        let line = summary_line(&done);
        assert!(line.contains(" reverted: ") && line.ends_with("; probe failed"), "{line}");
        assert_eq!(exit_of(&done.rollout), Exit::Ended);
    }

    #[test]
    fn a_log_says_what_a_silence_is_and_does_not_count_seconds() {
        let mut page = page();
        page.why = vec![
            "wave 2 is open: 1 of 3 hosts committed, 1 in flight".into(),
            "no window is open; the next one opens at 2026-11-29T02:00:00.000Z".into(),
            "wave 1 is finished and bakes until 2026-11-23T10:00:00.000Z (58 s left)".into(),
        ];
        assert_eq!(
            log_line(&page),
            summary_line(&page)
                + "; no window is open; the next one opens at 2026-11-29T02:00:00.000Z; wave 1 is \
                   finished and bakes until 2026-11-23T10:00:00.000Z"
        );
        page.rollout.phase = PhaseName::Done;
        assert_eq!(log_line(&page), summary_line(&page));
    }

    #[test]
    fn who_goes_back_or_is_held_is_counted_as_such() {
        let counts =
            HostCounts { hosts: 4, held: 1, reverting: 2, reverted: 1, ..HostCounts::default() };
        assert_eq!(counts_text(&counts), "0 of 4 committed, 1 held, 2 going back, 1 reverted");
    }

    #[test]
    fn the_block_fits_and_its_bars_are_whole() {
        let lines = block(&page(), false);
        assert_eq!(lines.len(), 5);
        for line in &lines {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert_eq!(lines[1], format!("  canary       {} 1 of 1 committed", "█".repeat(24)));
        assert!(lines[2].contains(&format!("{}{}{}", "█".repeat(8), "▒".repeat(8), "·".repeat(8))));
    }
}
