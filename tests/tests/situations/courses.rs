//! Rollouts that wait, stop or end otherwise than they were meant to: what each waits for, and what lets it go on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use groundswell_common::api::PhaseName;
use groundswell_tests::must::Must as _;

use crate::table::Surface::{Answer, Audit, Doctor, Host, Show, Status, Why};
use crate::table::{Row, Says, Step, Well};
use crate::world::World;

const TWO: &str = "[[wave]]\nname = \"canary\"\nselector = \"canary=yes\"\n\n\
                   [[wave]]\nname = \"everyone\"\nrest = true\n";

fn second_wave(world: &mut World, lines: &str) {
    world.policy_with("", &format!("{TWO}{lines}"));
    world.publish();
    world.wait_phase(PhaseName::Gated);
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "a wave waits for an approval",
        make: |world| second_wave(world, "gate = \"approval\"\n"),
        says: &[
            Says(
                &[Show],
                "wave 2 waits for approval: 0 of 1 persons approved",
                "swell approve {id}",
            ),
            Says(&[Status], "! {id} is gated: wave 2 waits for approval", "'swell approve shop'"),
        ],
        cure: &[Step::Typed("swell approve {id} --yes")],
        well: Well::New,
    },
    Row {
        name: "a wave waits for a person",
        make: |world| second_wave(world, "gate = \"manual\"\n"),
        says: &[
            Says(&[Show], "wave 2 waits for a person to open it", "'swell rollout promote {id}'"),
            Says(
                &[Status],
                "! {id} is gated: wave 2 waits for a person to open it",
                "'swell rollout promote {id}'",
            ),
        ],
        cure: &[Step::Typed("swell rollout promote {id}")],
        well: Well::New,
    },
    Row {
        name: "who published approves too, where four eyes are wanted",
        make: |world| {
            second_wave(world, "gate = \"approval\"\nfour_eyes = true\n");
            world.ask("swell approve {id} --yes");
        },
        says: &[Says(
            &[Answer],
            "ann published this release; another person must approve it",
            "ask somebody who did not publish the release",
        )],
        cure: &[Step::Hand("ask somebody who did not publish", |world| {
            let profile = world.dir.join("bob.profile").display().to_string();
            world.type_in(&format!("swell operator add bob --role approver --output {profile}"));
            world.type_in(&format!("swell --profile {profile} approve {{id}} --yes"));
        })],
        well: Well::New,
    },
    Row {
        name: "a person approves twice where two are wanted",
        make: |world| {
            second_wave(world, "gate = \"approval\"\napprovals = 2\n");
            world.type_in("swell approve {id} --yes");
            world.ask("swell approve {id} --yes");
        },
        says: &[
            Says(&[Answer], "ann has approved this already", "another person must"),
            Says(
                &[Show],
                "wave 2 waits for approval: 1 of 2 persons approved",
                "swell approve {id}",
            ),
        ],
        cure: &[Step::Hand("another person must", |world| {
            let profile = world.dir.join("eve.profile").display().to_string();
            world.type_in(&format!("swell operator add eve --role approver --output {profile}"));
            world.type_in(&format!("swell --profile {profile} approve {{id}} --yes"));
        })],
        well: Well::New,
    },
    Row {
        name: "a webhook cannot be reached",
        make: |world| {
            world.policy_with(
                "webhook = \"http://127.0.0.1:9911/go\"",
                &format!("{TWO}gate = \"webhook\"\n"),
            );
            world.publish();
            world.wait_phase(PhaseName::Gated);
        },
        says: &[
            Says(&[Show, Status], "wave 2 waits for its webhook", "which cannot say yet"),
            Says(&[Audit], "inconclusive", "connect to it"),
        ],
        cure: &[Step::Hand("waits for its webhook", |_| answer_once("pass", "tests are green"))],
        well: Well::New,
    },
    Row {
        name: "a webhook says no",
        make: |world| {
            answer_once("fail", "orders are down");
            world.policy_with(
                "webhook = \"http://127.0.0.1:9911/go\"",
                &format!("{TWO}gate = \"webhook\"\n"),
            );
            world.publish();
            world.wait_phase(PhaseName::Halted);
        },
        says: &[
            Says(
                &[Show, Status],
                "the webhook says that wave 2 must not open: orders are down",
                "{id}",
            ),
            Says(&[Show], "orders are down", "'swell resume {id}' goes on before wave 2"),
        ],
        cure: &[
            Step::Hand("orders are down", |_| answer_once("pass", "orders are up")),
            Step::Typed("swell resume shop"),
        ],
        well: Well::New,
    },
    Row {
        name: "no window is open",
        make: |world| {
            world.policy_with(
                "",
                &format!("{}{}", never(), "[[wave]]\nname = \"everyone\"\nrest = true\n"),
            );
            world.publish();
        },
        says: &[
            Says(&[Show, Why], "no window is open; the next one opens at", "T"),
            Says(&[Why], "no window is open", "it may switch at"),
        ],
        cure: &[Step::Hand("no window is open", |world| {
            world.policy_with("", "");
            world.type_in("swell rollout start shop {new}");
        })],
        well: Well::New,
    },
    Row {
        name: "a freeze",
        make: |world| {
            world.policy_with(
                "",
                "[[freeze]]\nfrom = \"2020-01-01T00:00Z\"\nuntil = \"2035-01-01T00:00Z\"\n\
                 why = \"the books are closed\"\n\n\
                 [[wave]]\nname = \"everyone\"\nrest = true\n",
            );
            world.publish();
        },
        says: &[Says(
            &[Show, Why],
            "a freeze holds it until 2035-01-01T00:00",
            "the books are closed",
        )],
        cure: &[Step::Hand("a freeze holds it", |world| {
            world.policy_with("", "");
            world.type_in("swell rollout start shop {new}");
        })],
        well: Well::New,
    },
    Row {
        name: "it was halted",
        make: |world| {
            second_wave(world, "gate = \"manual\"\n");
            world.ask("swell halt shop --why 'orders fail'");
        },
        says: &[
            Says(&[Answer], "is halted", "in force after"),
            Says(
                &[Show],
                "ann halted it: orders fail",
                "'swell resume {id}' goes on before wave 2",
            ),
            Says(&[Status], "is halted: ann halted it: orders fail", "swell resume {id} goes on"),
            Says(&[Audit], "halt", "orders fail"),
        ],
        cure: &[
            Step::Typed("swell resume shop"),
            Step::Hand("orders fail", |world| {
                world.type_in("swell promote {id}");
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "it was paused, and is given up",
        make: |world| {
            second_wave(world, "gate = \"manual\"\n");
            world.type_in("swell pause shop --why lunch");
        },
        says: &[
            Says(&[Show], "ann paused it: lunch", "'swell resume {id}' goes on before wave 2"),
            Says(&[Status], "is paused: ann paused it: lunch", "swell resume {id} goes on"),
        ],
        cure: &[Step::Hand("resume", |world| {
            world.type_in("swell rollout abort shop --yes --why 'never mind'");
        })],
        well: Well::Old,
    },
    Row {
        name: "a person slowed it down to nothing much",
        make: |world| {
            world.policy_with("host_bake_secs = 3\nmax_in_flight = \"100%\"", "");
            world.publish();
            world.type_in("swell rollout slow shop --max-in-flight 1");
        },
        says: &[Says(
            &[Show],
            "a person slowed it down to 1 host in flight",
            "'swell rollout slow {id}' without a number ends that",
        )],
        cure: &[Step::Typed("swell rollout slow shop")],
        well: Well::New,
    },
    Row {
        name: "a host was left out",
        make: |world| {
            world.policy_with("", &format!("{TWO}gate = \"manual\"\n"));
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.type_in("swell rollout exclude shop --host web-2 --why 'under the knife'");
            world.type_in("swell promote shop");
        },
        says: &[Says(
            &[Show],
            "a person left it out",
            "'swell rollout retry {id} --host web-2' takes it in again",
        )],
        cure: &[Step::Typed("swell rollout retry shop --host web-2")],
        well: Well::New,
    },
    Row {
        name: "a host failed within the budget",
        make: |world| {
            world.policy_with("failure_budget = 1", "");
            world.make_ill(&world.new.clone(), "web-1");
            world.publish();
            world.wait_completed(&world.new.clone());
            world.heal();
        },
        says: &[
            Says(&[Show], "web-1 is ill", "swell rollout retry {id} --host web-1"),
            Says(
                &[Why],
                "the release failed on it (probe): probes did not pass",
                "mend the cause, then 'swell rollout retry {id} --host web-1'",
            ),
            Says(&[Status], "failed before", "{id}"),
            Says(
                &[Doctor],
                "a release failed here and the one before is back",
                "swell rollout retry {id} --host web-1",
            ),
        ],
        cure: &[Step::Typed("swell rollout retry {id} --host web-1")],
        well: Well::By(|world| {
            let new = world.new.clone();
            world.wait_runs(&new, std::time::Duration::from_secs(60));
        }),
    },
    Row {
        name: "a host is in quarantine",
        make: |world| {
            world.policy_with("failure_budget = 1\nquarantine_after = 1", "");
            world.make_ill("", "web-1");
            world.publish();
            world.wait_completed(&world.new.clone());
            world.heal();
            world.new = format!("{}.1", world.new);
            world.publish();
            world.wait_completed(&world.new.clone());
        },
        says: &[Says(
            &[Why],
            "it failed 1 times in a row and is in quarantine",
            "'swell host clear web-1' takes it in again",
        )],
        cure: &[
            Step::Typed("swell host clear web-1 --why 'a new disk'"),
            Step::Told("takes it in again", "swell rollout start shop {new}"),
        ],
        well: Well::New,
    },
    Row {
        name: "a release needs one that a host does not run",
        make: |world| {
            let tree = world.tree(&world.new, "requires = \"disk=nvme\"\n");
            world.fleet.publish("shop", &world.new, &tree);
            world.ask("swell rollout start shop {new}");
        },
        says: &[Says(
            &[Answer],
            "all 2 hosts are left out; the first since the release requires disk=nvme",
            "'swell host label' gives it labels",
        )],
        cure: &[
            Step::Typed("swell host label web-1 role=web,canary=yes,disk=nvme"),
            Step::Typed("swell host label web-2 role=web,disk=nvme"),
            Step::Told("all 2 hosts are left out", "swell rollout start shop {new}"),
        ],
        well: Well::New,
    },
    Row {
        name: "a newer release took over",
        make: |world| {
            second_wave(world, "gate = \"manual\"\n");
            let first = world.id();
            world.policy_with("", "");
            world.new = format!("{}.1", world.new);
            world.publish();
            world.ask(&format!("swell watch {first}"));
        },
        says: &[Says(&[Answer], "superseded by {id}", "exit status: 3")],
        cure: &[Step::Told("superseded by", "swell watch {id}")],
        well: Well::New,
    },
    Row {
        name: "nobody of a wave is there",
        make: |world| {
            world.policy_with("progress_deadline_secs = 30", "");
            world.agents.iter_mut().for_each(groundswell_tests::fleet::Agent::kill);
            world.wait_away(2);
            world.publish();
        },
        says: &[
            Says(
                &[Show],
                "wave 1 is open and nobody of its 2 hosts is connected",
                "unless one comes back",
            ),
            Says(&[Status], "! away: web-1, web-2", "0 of 2 hosts connected"),
            Says(&[Why], "the host is not connected", "look at 'groundswell-agent doctor' there"),
            Says(&[Doctor], "the agent does not run", "systemctl start groundswell-agent"),
        ],
        cure: &[Step::Hand("systemctl start groundswell-agent", |world| {
            world.agents.iter_mut().for_each(groundswell_tests::fleet::Agent::run);
        })],
        well: Well::New,
    },
    Row {
        name: "a host was away in its wave",
        make: |world| {
            world.agents[0].kill();
            world.wait_away(1);
            world.publish();
            world.wait_completed(&world.new.clone());
        },
        says: &[
            Says(&[Show], "it was away when its turn came", "it is staged when it is back"),
            Says(&[Status], "! away: web-1", "1 away"),
            Says(&[Doctor], "the agent does not run", "systemctl start groundswell-agent"),
        ],
        cure: &[Step::Hand("systemctl start groundswell-agent", |world| world.agents[0].run())],
        well: Well::New,
    },
    Row {
        name: "a host fell silent in its bake",
        make: |world| {
            world
                .policy_with("failure_budget = 2\nhost_bake_secs = 3\nprobe_deadline_secs = 2", "");
            world.publish();
            world.wait_progress("web-1", "baking");
            world.agents[0].kill();
            world.wait_away(1);
        },
        says: &[
            Says(&[Why], "the host is not connected", "groundswell-agent doctor"),
            Says(&[Status], "! away: web-1", "1 away"),
        ],
        cure: &[Step::Hand("groundswell-agent doctor", |world| world.agents[0].run())],
        well: Well::By(|world| {
            let new = world.new.clone();
            world.wait_runs(&new, std::time::Duration::from_secs(60));
        }),
    },
    Row {
        name: "the service of a host fails after it committed",
        make: |world| {
            world.policy_with("progress_deadline_secs = 3600", "");
            world.publish();
            world.wait_completed(&world.new.clone());
            world.make_ill(&world.new.clone(), "web-1");
        },
        says: &[
            Says(
                &[Why],
                "shop: {new} fails its probes",
                "'swell revert shop' takes the release back",
            ),
            Says(&[Status], "! shop is ill on web-1", "swell host why web-1 says why"),
            Says(&[Host], "web-1 is ill", "fail"),
            Says(
                &[Doctor],
                "shop fails its probes",
                "or 'swell revert shop' everywhere, puts the one before back",
            ),
        ],
        cure: &[Step::Typed("swell revert shop --yes --wait")],
        well: Well::Old,
    },
    Row {
        name: "the same, and only this host goes back",
        make: |world| {
            world.publish();
            world.wait_completed(&world.new.clone());
            world.make_ill(&world.new.clone(), "web-1");
        },
        says: &[Says(
            &[Doctor],
            "shop fails its probes",
            "'groundswell-agent revert shop --reason TEXT' here alone",
        )],
        cure: &[
            Step::Typed("groundswell-agent revert shop --reason 'this disk alone'"),
            Step::Hand("here alone", |world| {
                let old = world.old.clone();
                world.wait("the old version here", std::time::Duration::from_secs(30), || {
                    (world.runs()[0] == old).then_some(())
                });
                let said = world.read(Why);
                assert!(said.contains("this disk alone"), "{said}");
                world.heal();
                world.type_in("swell rollout retry shop --host web-1");
            }),
        ],
        well: Well::By(|world| {
            let new = world.new.clone();
            world.wait_runs(&new, std::time::Duration::from_secs(60));
        }),
    },
    Row {
        name: "a host is away while its service is reverted",
        make: |world| {
            world.publish();
            world.wait_completed(&world.new.clone());
            world.agents[0].kill();
            world.wait_away(1);
            world.type_in("swell revert shop --yes --wait");
        },
        says: &[
            Says(&[Show], "not there yet: 1 host", "web-1"),
            Says(&[Status], "! away: web-1", "1 away"),
        ],
        cure: &[Step::Hand("not there yet", |world| world.agents[0].run())],
        well: Well::Old,
    },
    Row {
        name: "the coordinator is away",
        make: |world| {
            world.fleet.kill_coordinator();
            world.ask("swell halt shop");
        },
        says: &[
            Says(&[Answer], "is it running, and is the address right?", "exit status: 4"),
            Says(&[Doctor], "not connected to the coordinator since", "it connects by itself"),
        ],
        cure: &[Step::Hand("is it running", |world| world.fleet.serve())],
        well: Well::By(|world| world.wait_away(0)),
    },
];

/// A window that is not open in the next hours, whatever the time is.
fn never() -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).must("read the clock");
    let start = (now.as_secs() / 3600 + 12) % 24;
    format!("[[window]]\nstart = \"{start:02}:00\"\nminutes = 60\n\n")
}

/// The next question to the webhook gets this answer.
fn answer_once(verdict: &'static str, why: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:9911").must("listen for a webhook");
    thread::spawn(move || {
        let Ok((mut line, _)) = listener.accept() else { return };
        let mut asked = [0; 4096];
        let mut read = 0;
        // The whole question: its head, and a body that ends the JSON object.
        while !asked[..read].ends_with(b"}") {
            match line.read(&mut asked[read..]) {
                Ok(count) if count > 0 => read += count,
                Ok(_) | Err(_) => return,
            }
        }
        let body = format!("{{\"verdict\": \"{verdict}\", \"why\": \"{why}\"}}");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // Who does not listen asks again.
        let _ = line.write_all(format!("{head}{body}").as_bytes());
    });
}

/// Where the files of a release's tree lie on a host under the process supervisor.
pub(crate) fn live(world: &World, path: &str) -> std::path::PathBuf {
    let current = world.agents[0].state().join("services/shop/current/tree").join(path);
    fs::canonicalize(&current).must(format_args!("find {}", current.display()))
}
