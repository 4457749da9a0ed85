//! What a rollout costs from 1,000 to 1,000,000 hosts: one report with the step and the wishes that
//! follow, one wish, the start, a halt, and a whole rollout of five waves.
//! `cargo bench -p groundswell-rollout`; with `-- --svg FILE` the cost of a report is drawn as well.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use groundswell_common::codec::to_record;
use groundswell_common::directive::Action;
use groundswell_common::report::{HostState, Standing, Verdict};
use groundswell_common::{Digest, HostId, ReleaseId, Timestamp};
use groundswell_rollout::plan::PLAN_HOSTS_MAX;
use groundswell_rollout::{
    Effects, HostFacts, Input, Moment, Phase, Plan, Policy, ReleaseRef, Rollout, desired, fact,
    generation, next_deadline, plan, step,
};

type Failure = Box<dyn std::error::Error>;

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Hosts of each wave, in thousandths of the fleet.
const WAVES: [(&str, u32); 5] =
    [("canary", 1), ("few", 50), ("quarter", 200), ("half", 250), ("rest", 499)];

struct Bench {
    rollout: Rollout,
    at: Moment,
}

/// What one size costs.
struct Cost {
    hosts: u32,
    start: Duration,
    halt: Duration,
    wish: Duration,
    whole: Duration,
    reports: u32,
    /// 0 where the fleet is larger than a plan may be.
    record_bytes: usize,
    peak_kib: u64,
}

impl Bench {
    fn apply(&mut self, input: &Input) -> Result<(Effects, Duration), Failure> {
        self.at.seq += 1;
        let start = Instant::now();
        let effects = step(&mut self.rollout, input, self.at)?;
        Ok((effects, start.elapsed()))
    }

    /// The host reports where it stands; the hosts whose wish that changed.
    fn report(&mut self, host: HostId, standing: &Standing) -> Result<Vec<HostId>, Failure> {
        let accepted = generation(&self.rollout, &host);
        let Some(fact) = fact(&self.rollout, &host, standing, accepted) else {
            return Ok(Vec::new());
        };
        Ok(self.apply(&Input::Host { host, fact })?.0.changed_hosts)
    }

    /// Every host does what it should until the rollout is over; the reports that it took.
    fn whole(&mut self, started: Vec<HostId>) -> Result<u32, Failure> {
        let mut told: VecDeque<HostId> = started.into();
        let mut reports = 0;
        loop {
            while let Some(host) = told.pop_front() {
                let Some(wish) = desired(&self.rollout, &host) else { continue };
                let states: &[HostState] = match wish.action {
                    Action::Stage { .. } => &[HostState::Staged],
                    Action::Switch { .. } => {
                        &[HostState::Probing, HostState::Baking, HostState::Committed]
                    }
                    Action::Hold {} | Action::Revert { .. } | Action::Remove {} => &[],
                };
                for state in states {
                    let standing = standing(&self.rollout, *state);
                    told.extend(self.report(host, &standing)?);
                    reports += 1;
                }
            }
            match (self.rollout.phase(), next_deadline(&self.rollout)) {
                (Phase::Done { .. }, _) | (_, None) => return Ok(reports),
                (_, Some(deadline)) => self.at.now = deadline,
            }
            told = self.apply(&Input::Tick)?.0.changed_hosts.into();
        }
    }
}

fn standing(rollout: &Rollout, state: HostState) -> Standing {
    let release = rollout.release();
    let staged = state == HostState::Staged;
    Standing {
        service: rollout.plan().service.clone(),
        state,
        running: (!staged).then_some(release),
        previous: None,
        target: (state != HostState::Committed).then_some(release),
        rollout: Some(rollout.id().clone()),
        health: Verdict::Pass,
        failure: None,
        switched: None,
    }
}

fn host_id(number: u32) -> HostId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    HostId::from_bytes(id)
}

/// A plan of five waves. Made for a few hosts and then filled, so that it may have more hosts than
/// the planner takes.
fn planned(count: u32) -> Result<Plan, Failure> {
    let mut policy = "service = \"shop\"\ntargets = \"*\"\nmax_in_flight = \"10%\"\n".to_owned();
    for (at, (name, _)) in WAVES.iter().enumerate() {
        let take = if at + 1 == WAVES.len() { "rest = true" } else { "count = 1" };
        write!(policy, "[[wave]]\nname = \"{name}\"\n{take}\n")?;
    }
    let facts = |number: u32| -> Result<HostFacts, Failure> {
        let (name, labels) = (format!("host-{number}").parse()?, "role=web".parse()?);
        let running = Some(ReleaseId::from_digest(Digest::of(b"old")));
        Ok(HostFacts { running, ..HostFacts::new(host_id(number), name, labels) })
    };
    let few: Vec<HostFacts> = (0..5).map(facts).collect::<Result<_, _>>()?;
    let release = ReleaseRef::new(ReleaseId::from_digest(Digest::of(b"new")), "2".parse()?);
    let mut plan = plan(&Policy::from_toml(&policy)?, &few, &release, &Digest::of(b"seed"))?;
    let mut numbers = 0..count;
    for (wave, (_, thousandths)) in plan.waves.iter_mut().zip(WAVES) {
        let size = count / 1_000 * thousandths;
        let like = wave.hosts.first().cloned().ok_or("an empty wave")?;
        let host = |number: u32| -> Result<_, Failure> {
            let (id, name) = (host_id(number), format!("host-{number}").parse()?);
            Ok(groundswell_rollout::PlannedHost { id, name, ..like.clone() })
        };
        let taken = usize::try_from(size)?;
        wave.hosts = numbers.by_ref().take(taken).map(host).collect::<Result<_, _>>()?;
        wave.max_in_flight = (size / 10).max(1);
    }
    Ok(plan)
}

fn bench(count: u32) -> Result<Cost, Failure> {
    let at = Moment { seq: 0, now: Timestamp::from_secs(1) };
    let rollout = Rollout::new("shop-1".parse()?, planned(count)?);
    let mut bench = Bench { rollout, at };
    let (effects, start) = bench.apply(&Input::Start { away: Vec::new(), busy: Vec::new() })?;
    let mut aside = Bench { rollout: bench.rollout.clone(), at: bench.at };
    let (_, halt) = aside.apply(&Input::Halt { by: "ann".parse()?, why: String::new() })?;
    drop(aside);
    let begin = Instant::now();
    let reports = bench.whole(effects.changed_hosts)?;
    let whole = begin.elapsed();
    if !bench.rollout.is_proven() {
        return Err(format!("{count} hosts: it ended as {:?}", bench.rollout.phase()).into());
    }
    let hosts: Vec<HostId> =
        bench.rollout.hosts().take(1_000).map(|(_, host, _)| host.id).collect();
    let begin = Instant::now();
    for host in &hosts {
        std::hint::black_box(desired(&bench.rollout, host));
    }
    let wish = begin.elapsed() / u32::try_from(hosts.len())?;
    // A plan has no more hosts than this, so nobody keeps the record of a larger rollout.
    let record_bytes = match usize::try_from(count)? <= PLAN_HOSTS_MAX {
        true => to_record(1, &bench.rollout)?.len(),
        false => 0,
    };
    let peak_kib = peak_kib()?;
    Ok(Cost { hosts: count, start, halt, wish, whole, reports, record_bytes, peak_kib })
}

/// The most memory that this process has had resident, in KiB.
fn peak_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let text = line.ok_or("no VmHWM in /proc/self/status")?;
    Ok(text.trim().trim_end_matches(" kB").parse()?)
}

/// The cost of a report over the size of the fleet, both on logarithmic axes.
fn plot(costs: &[Cost], file: &Path) -> Result<(), Failure> {
    let mut svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 480 240\" \
        font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"480\" height=\"240\" \
        fill=\"#fff\"/>\n<text x=\"16\" y=\"20\">microseconds for a report, its step and the \
        wishes that follow</text>\n"
        .to_owned();
    let mut points = String::new();
    for (cost, at) in costs.iter().zip(0_u32..) {
        let micros = (cost.whole / cost.reports).as_secs_f64() * 1e6;
        let (x, y) = (70 + at * 115, 200.0 - 60.0 * micros.log10().clamp(0.0, 2.5));
        write!(points, "{x},{y:.0} ")?;
        let (hosts, above) = (cost.hosts, y - 10.0);
        writeln!(svg, "<circle cx=\"{x}\" cy=\"{y:.0}\" r=\"4\" fill=\"#1668b8\"/>")?;
        writeln!(
            svg,
            "<text x=\"{x}\" y=\"{above:.0}\" text-anchor=\"middle\">{micros:.1}</text>"
        )?;
        writeln!(svg, "<text x=\"{x}\" y=\"225\" text-anchor=\"middle\">{hosts} hosts</text>")?;
    }
    let line = points.trim_end();
    writeln!(svg, "<polyline points=\"{line}\" fill=\"none\" stroke=\"#1668b8\"/>\n</svg>")?;
    Ok(std::fs::write(file, svg)?)
}

fn main() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut costs = Vec::new();
    for size in SIZES {
        let cost = bench(size)?;
        let Cost { hosts, start, halt, wish, whole, reports, record_bytes, peak_kib } = &cost;
        writeln!(
            out,
            "{hosts} hosts: report {:?}, wish {wish:?}, start {start:?}, halt {halt:?}, whole \
             rollout {whole:?} ({reports} reports), record {record_bytes} bytes, peak {peak_kib} KiB",
            *whole / *reports
        )?;
        costs.push(cost);
    }
    let mut words = std::env::args().skip_while(|word| word != "--svg").skip(1);
    words.next().map_or(Ok(()), |file| plot(&costs, Path::new(&file)))
}
