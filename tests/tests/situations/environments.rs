//! Staging and production: what waits between them, who belongs to neither, and verbs that must be told which.

use std::path::Path;

use groundswell_common::api::PhaseName;

use crate::table::Surface::{Answer, Service, Status, Why};
use crate::table::{Row, Says, Step, Well};
use crate::world::{POLICY, World, quick_fleet};

const BOTH: &str =
    "\n[[environment]]\nname = \"staging\"\n\n[[environment]]\nname = \"production\"\n";

/// One host of each.
pub(crate) fn world(dir: &Path) -> World {
    let fleet = quick_fleet(dir, "127.0.0.1");
    let staging = fleet.agent_of("web-1", &fleet.token_in("role=web", "staging"));
    let production = fleet.agent("web-2", "role=web");
    let mut world = World::new(fleet, dir, vec![staging, production], Vec::new());
    world.base = format!("{POLICY}{BOTH}");
    world
}

fn soaking(world: &mut World, lines: &str) {
    let policy = world.base.replace("promote_after_secs = 0", lines);
    world.policy(&policy);
    world.publish();
    world.wait("the end in staging", std::time::Duration::from_secs(30), || {
        world.read(Status).contains(" waits: production: ").then_some(())
    });
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "a release soaks in staging",
        make: |world| {
            soaking(world, "promote_after_secs = 3600");
            world.ask("swell rollout start shop {new} --environment production");
        },
        says: &[
            Says(
                &[Answer],
                "{new} does not start in production yet: ",
                "start it with --skip --why ...",
            ),
            Says(&[Status, Service], "production: {new} soaks in staging until", "T"),
        ],
        cure: &[Step::Told(
            "start it with --skip --why",
            "swell rollout start shop {new} --environment production --skip --why 'orders fail'",
        )],
        well: Well::New,
    },
    Row {
        name: "production is started by hand",
        make: |world| {
            let by_hand = format!("{BOTH}auto = false\n");
            let policy = world.base.replace(BOTH, &by_hand);
            world.policy(&policy);
            world.publish();
        },
        says: &[Says(
            &[Status, Service],
            "production: the policy says auto = false",
            "start it with 'swell rollout start'",
        )],
        cure: &[Step::Typed("swell rollout start shop {new} --environment production")],
        well: Well::New,
    },
    Row {
        name: "a release failed in staging",
        make: |world| {
            world.make_ill(&world.new.clone(), "web-1");
            world.publish();
            world.wait("the end in staging", std::time::Duration::from_secs(30), || {
                world.read(Status).contains("poisoned").then_some(())
            });
            world.heal();
            world.ask("swell rollout start shop {new} --environment production --skip --why 'it is urgent'");
        },
        says: &[
            Says(
                &[Answer],
                "shop {new} is poisoned: in staging: ",
                "'swell release clear shop@{new} --why ...'",
            ),
            Says(
                &[Status],
                "! shop {new} is poisoned: in staging: ",
                "swell release clear shop@{new} --why ...",
            ),
        ],
        cure: &[
            Step::Typed("swell release clear shop@{new} --why 'the disk was full' --yes"),
            Step::Hand("lets it be rolled out again", |world| {
                world.type_in("swell rollout start shop {new}")
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "a revert that does not say where",
        make: |world| world.ask("swell revert shop --yes"),
        says: &[Says(
            &[Answer],
            "shop has the environments staging, production",
            "name one with --environment",
        )],
        cure: &[Step::Told(
            "name one with --environment",
            "swell revert shop --environment production --yes --wait",
        )],
        well: Well::By(|world| assert_eq!(world.runs(), [world.old.clone(), world.before.clone()])),
    },
    Row {
        name: "an environment that the policy does not name",
        make: |world| world.ask("swell rollout start shop {old} --environment prod"),
        says: &[Says(
            &[Answer],
            "the policy of shop has no environment prod; it has staging, production",
            "'swell service show' prints the policy",
        )],
        cure: &[Step::Told("swell service show", "swell service show shop")],
        well: Well::Quiet,
    },
    Row {
        name: "two rollouts are under way",
        make: |world| {
            let gated = world.base.replace("rest = true\n", "rest = true\ngate = \"manual\"\n");
            world.policy(&gated);
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.type_in("swell rollout start shop {new} --environment production --skip --why 'it is urgent'");
            world.ask("swell promote shop");
        },
        says: &[
            Says(&[Answer], "shop has several rollouts under way", "name one of them"),
            Says(&[Status], "wave 1 waits for a person to open it", "{id}"),
        ],
        cure: &[Step::Hand("name one of them", |world| {
            let list: groundswell_common::api::RolloutsAnswer =
                world.fleet.swell_json(&["rollout", "ls", "--service", "shop"]);
            let under_way =
                list.rollouts.iter().filter(|rollout| rollout.phase == PhaseName::Gated);
            for rollout in under_way {
                world.type_in(&format!("swell promote {}", rollout.rollout));
            }
        })],
        well: Well::New,
    },
    Row {
        name: "a host whose environment the policy does not name",
        make: |world| {
            let file = world.policy_file(POLICY);
            world.ask(&format!("swell service apply {file} --yes"));
        },
        says: &[
            Says(
                &[Answer],
                "1 host in environment staging would fit, and the policy does not name it",
                "add [[environment]] name = \"staging\"",
            ),
            Says(
                &[Why],
                "its environment is staging, which the policy does not name, so it gets nothing",
                "add [[environment]] name = \"staging\"",
            ),
        ],
        cure: &[Step::Hand("add [[environment]] name = \"staging\"", |world| {
            let file = world.policy_file(&world.base);
            world.type_in(&format!("swell service apply {file}"));
        })],
        well: Well::By(World::advance),
    },
    Row {
        name: "an environment without hosts",
        make: |world| {
            let policy = format!("{}\n[[environment]]\nname = \"edge\"\n", world.base);
            world.policy(&policy);
            world.ask("swell rollout start shop {old} --environment edge --skip --why now");
        },
        says: &[Says(
            &[Answer],
            "no host is in environment edge",
            "'swell host enroll-token --environment edge' makes tokens",
        )],
        cure: &[
            Step::Typed("swell host enroll-token --environment edge"),
            Step::Hand("edge", |world| {
                let base = world.base.clone();
                world.policy(&base);
            }),
        ],
        well: Well::Quiet,
    },
];
