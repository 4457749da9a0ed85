//! Owns what a row of the table is, and how one is run: made, looked at on every surface that it names, cured by the
//! step that was read there, and looked at again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use groundswell_tests::wait::within;

use crate::world::World;

/// How long a surface may take to say what is so.
const SAID_BOUND: Duration = Duration::from_secs(40);
/// How long a cure may take until it is seen.
const CURED_BOUND: Duration = Duration::from_secs(60);

/// One situation.
pub(crate) struct Row {
    /// What a person would call it.
    pub(crate) name: &'static str,
    /// Brings it about.
    pub(crate) make: fn(&mut World),
    /// What each surface says. `{old}` is the version that runs, `{new}` the one that is to run, `{before}` the one
    /// that was proven before, `{id}` the newest rollout of the service, `{dir}` the folder of the run.
    pub(crate) says: &'static [Says],
    /// What a person does who has read that, word for word.
    pub(crate) cure: &'static [Step],
    /// How it must end.
    pub(crate) well: Well,
}

/// Surfaces, the cause that each of them must say, and the next step.
pub(crate) struct Says(
    pub(crate) &'static [Surface],
    pub(crate) &'static str,
    pub(crate) &'static str,
);

/// Where a person reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// What the command of the row itself answered.
    Answer,
    /// `swell host why web-1`.
    Why,
    /// `swell host show web-1`.
    Host,
    /// `swell host ls`.
    Ls,
    /// `swell status`.
    Status,
    /// `swell rollout show shop`.
    Show,
    /// `swell service show shop`.
    Service,
    /// `swell plan shop`.
    Plan,
    /// `groundswell-agent why` on the host.
    AgentWhy,
    /// `groundswell-agent doctor` on the host.
    Doctor,
    /// `groundswell-agent status` on the host.
    AgentStatus,
    /// The agent's log.
    AgentLog,
    /// The coordinator's log.
    Log,
    /// The ledger.
    Audit,
}

/// One step of a cure.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// Typed at a desk or on the host; the surfaces have named it.
    Typed(&'static str),
    /// The same, where the surfaces say what to do in other words, which are given.
    Told(&'static str, &'static str),
    /// Done by hand: files, disks, networks. The surfaces have said the words that are given.
    Hand(&'static str, fn(&mut World)),
}

/// How a row must end.
#[derive(Clone, Copy)]
pub(crate) enum Well {
    /// Every host runs the new version, and its rollout completed.
    New,
    /// Every host runs the version that ran before.
    Old,
    /// Every host runs the version that was proven before that.
    Before,
    /// Nobody says the cause any more.
    Quiet,
    /// By a look of its own.
    By(fn(&mut World)),
    /// The same, where the cause is said for a while yet.
    Lasting(fn(&mut World)),
}

impl Surface {
    /// Whether it says what is so now; what was answered or logged stays.
    fn is_now(self) -> bool {
        match self {
            Self::Why
            | Self::Ls
            | Self::Status
            | Self::Plan
            | Self::Service
            | Self::AgentWhy
            | Self::Doctor
            | Self::AgentStatus => true,
            Self::Answer | Self::Host | Self::Show | Self::AgentLog | Self::Log | Self::Audit => {
                false
            }
        }
    }
}

/// Runs the rows one after the other in one world.
///
/// # Panics
/// When one of them fails, naming all that did.
pub(crate) fn run(world: &mut World, rows: &[Row]) {
    let only = std::env::var("SITUATION").ok();
    let mut failed = Vec::new();
    for row in rows.iter().filter(|row| only.as_ref().is_none_or(|only| row.name.contains(only))) {
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| one(world, row)));
        let took = began.elapsed().as_secs_f32();
        match done {
            Ok(()) => eprintln!("{took:5.1} s  {}", row.name),
            Err(_) => {
                eprintln!("{took:5.1} s  FAILED: {}", row.name);
                failed.push(row.name);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} situations failed: {failed:?}", failed.len(), rows.len());
}

fn one(world: &mut World, row: &Row) {
    world.begin();
    (row.make)(world);
    let mut read = String::new();
    let mut wrong = Vec::new();
    // As the names are now: the cure may take another version.
    let mut causes = Vec::new();
    for Says(surfaces, cause, next) in row.says {
        let (cause, next) = (world.fill(cause), world.fill(next));
        for surface in *surfaces {
            let (said, is_right) = said(world, *surface, (&cause, &next));
            wrong.extend(
                (!is_right)
                    .then(|| format!("{surface:?} does not say {cause:?} and {next:?}:\n{said}")),
            );
            read.push_str(&said);
            causes.extend(surface.is_now().then(|| (*surface, cause.clone())));
        }
    }
    if !wrong.is_empty() {
        eprintln!("{}\n{}", wrong.join("\n"), world.all());
    }
    for step in row.cure {
        take(world, *step, &read);
    }
    ended(world, row.well);
    for (surface, cause) in causes.iter().filter(|_| !matches!(row.well, Well::Lasting(_))) {
        quiet(world, *surface, cause);
    }
    world.end();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Waits until a surface says the cause with the next step; all that it says, and whether it does.
fn said(world: &World, surface: Surface, (cause, next): (&str, &str)) -> (String, bool) {
    let bound = if surface == Surface::Answer { Duration::ZERO } else { SAID_BOUND };
    let mut last = String::new();
    let found = within(bound, || {
        last = world.read(surface);
        (last.contains(cause) && last.contains(next)).then_some(())
    });
    (last, found.is_some())
}

/// Waits until a surface says the cause no more.
fn quiet(world: &World, surface: Surface, cause: &str) {
    let mut last = String::new();
    let found = within(CURED_BOUND, || {
        last = world.read(surface);
        (!last.contains(cause)).then_some(())
    });
    assert!(found.is_some(), "{surface:?} still says {cause:?}:\n{last}");
}

fn take(world: &mut World, step: Step, read: &str) {
    let read = read.split_whitespace().collect::<Vec<_>>().join(" ");
    let was_told = |words: &str| {
        let words = world.fill(words);
        assert!(read.contains(&words), "nobody said {words:?}:\n{read}");
    };
    match step {
        Step::Typed(line) => {
            was_told(verb(line));
            world.type_in(line);
        }
        Step::Told(words, line) => {
            was_told(words);
            world.type_in(line);
        }
        Step::Hand(words, hand) => {
            was_told(words);
            hand(world);
        }
    }
}

/// The part of a typed line that surfaces name: up to the first name or option.
fn verb(line: &str) -> &str {
    let words = line.split(' ');
    let named = words.take_while(|word| {
        let is_verb = word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_verb && !word.starts_with("--") && !["shop", "cart"].contains(word)
    });
    let length = named.map(|word| word.len() + 1).sum::<usize>();
    &line[..length.saturating_sub(1)]
}

fn ended(world: &mut World, well: Well) {
    let version = match well {
        Well::New => world.new.clone(),
        Well::Old => world.old.clone(),
        Well::Before => world.before.clone(),
        Well::Quiet => return,
        Well::By(look) | Well::Lasting(look) => return look(world),
    };
    world.wait_runs(&version, CURED_BOUND);
    if matches!(well, Well::New) {
        world.wait_completed(&version);
    }
}

#[test]
fn a_line_names_its_verb() {
    assert_eq!(verb("swell host undrain web-1"), "swell host undrain");
    assert_eq!(verb("swell rollout start shop {new} --wait"), "swell rollout start");
    assert_eq!(verb("systemctl daemon-reload"), "systemctl daemon-reload");
    assert_eq!(verb("swell status"), "swell status");
}
