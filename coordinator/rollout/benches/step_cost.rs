//! Cost of one fact and one wish at 1,000 and at 100,000 hosts, and of the steps that touch a wave.
//! `cargo bench -p groundswell-rollout`.

use std::time::{Duration, Instant};

use groundswell_common::{Digest, HostId, ReleaseId, Timestamp};
use groundswell_rollout::{
    HostFact, HostFacts, Input, Moment, Policy, ReleaseRef, Rollout, desired, plan, step,
};

type Failure = Box<dyn std::error::Error>;

const POLICY: &str = "service = \"shop\"\ntargets = \"*\"\nmax_in_flight = \"10%\"\n\
    [[wave]]\nrest = true\n";

struct Bench {
    rollout: Rollout,
    at: Moment,
}

impl Bench {
    fn apply(&mut self, input: &Input) -> Result<Duration, Failure> {
        self.at.seq += 1;
        let start = Instant::now();
        let effects = step(&mut self.rollout, input, self.at)?;
        let took = start.elapsed();
        std::hint::black_box(effects);
        Ok(took)
    }
}

fn host(number: u32) -> HostId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    HostId::from_bytes(id)
}

fn bench(count: u32, out: &mut impl std::io::Write) -> Result<(), Failure> {
    let facts = |number: u32| -> Result<HostFacts, Failure> {
        let (name, labels) = (format!("host-{number}").parse()?, "role=web".parse()?);
        let running = Some(ReleaseId::from_digest(Digest::of(b"old")));
        Ok(HostFacts { running, ..HostFacts::new(host(number), name, labels) })
    };
    let hosts: Vec<HostFacts> = (0..count).map(facts).collect::<Result<_, _>>()?;
    let id = ReleaseId::from_digest(Digest::of(b"new"));
    let release = ReleaseRef::new(id, "2".parse()?);
    let start = Instant::now();
    let plan = plan(&Policy::from_toml(POLICY)?, &hosts, &release, &Digest::of(b"seed"))?;
    let planned = start.elapsed();
    let at = Moment { seq: 0, now: Timestamp::from_secs(1) };
    let mut bench = Bench { rollout: Rollout::new("shop-1".parse()?, plan), at };
    let started = bench.apply(&Input::Start { away: Vec::new() })?;
    let course = [HostFact::Staged, HostFact::SwitchStarted, HostFact::Passed, HostFact::Committed];
    let (mut total, mut facts) = (Duration::ZERO, 0_u32);
    let order: Vec<HostId> =
        bench.rollout.hosts().take(1_000).map(|(_, host, _)| host.id).collect();
    for host in &order {
        for fact in &course {
            total += bench.apply(&Input::Host { host: *host, fact: fact.clone() })?;
            facts += 1;
        }
    }
    let start = Instant::now();
    for host in &order {
        std::hint::black_box(desired(&bench.rollout, host));
    }
    let wish = start.elapsed() / u32::try_from(order.len())?;
    let by = "ann";
    let halt = Input::Halt { by: by.parse()?, why: String::new() };
    let halted = if count > 1_000 { Some(bench.apply(&halt)?) } else { None };
    let record = groundswell_common::codec::to_record(1, &bench.rollout)?.len();
    writeln!(
        out,
        "{count} hosts: fact {:?}, wish {wish:?}, plan {planned:?}, start {started:?}, \
         halt {halted:?}, record {record} bytes",
        total / facts
    )?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    bench(1_000, &mut out)?;
    bench(10_000, &mut out)?;
    bench(100_000, &mut out)
}
