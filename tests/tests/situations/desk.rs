//! What a desk is answered: releases, policies and orders that are refused, each with the step that is not.

use std::fs;

use groundswell_common::api::PhaseName;
use groundswell_tests::must::Must as _;

use crate::table::Surface::{Answer, Plan, Service, Show, Status, Why};
use crate::table::{Row, Says, Step, Well};
use crate::world::{POLICY, World};

fn approve(world: &mut World) {
    world.type_in("swell approve {id} --yes");
}

const GATED: &str = "[[wave]]\nname = \"canary\"\ncount = 1\n\n[[wave]]\nname = \"everyone\"\n\
                     rest = true\ngate = \"approval\"\n";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "a release that was taken back is published again",
        make: |world| {
            world.fail("web-1");
            world.heal();
            world.ask("swell publish --service shop --version {new} {dir}/tree-{new}");
        },
        says: &[Says(&[Answer], "shop {new} is poisoned", "swell release clear shop@{new} --why")],
        cure: &[
            Step::Typed("swell release clear shop@{new} --why 'the disk was full' --yes"),
            Step::Typed("swell rollout start shop {new} --wait"),
        ],
        well: Well::New,
    },
    Row {
        name: "a rollout of a poisoned release is started by hand",
        make: |world| {
            world.fail("web-1");
            world.heal();
            world.ask("swell rollout start shop {new}");
        },
        says: &[
            Says(&[Answer], "shop {new} is poisoned", "swell release clear shop@{new} --why"),
            Says(&[Show], "1 host of wave 1 failed, its budget is 0", "web-1 is ill"),
        ],
        cure: &[
            Step::Typed("swell release clear shop@{new} --why 'the disk was full' --yes"),
            Step::Hand("lets it be rolled out again", |world| {
                world.type_in("swell rollout start shop {new}");
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "an older release is started",
        make: |world| world.ask("swell rollout start shop {before}"),
        says: &[Says(
            &[Answer],
            "{before} is older than {old}, which was completed last",
            "'swell revert shop --to {before}' goes back to it",
        )],
        cure: &[Step::Typed("swell revert shop --to {before} --yes --wait")],
        well: Well::Before,
    },
    Row {
        name: "an older release is published again, as a job does that wants to go back",
        make: |world| {
            world.ask("swell publish --service shop --version {before} {dir}/tree-{before}");
        },
        says: &[Says(&[Answer], "shop {before}", "swell revert shop --to {before}")],
        cure: &[Step::Typed("swell revert shop --to {before} --yes --wait")],
        well: Well::Before,
    },
    Row {
        name: "a release went back, and then the one before it is bad too",
        make: |world| {
            world.fail("web-2");
            world.ask("swell revert shop --to {new} --yes");
        },
        says: &[Says(
            &[Answer],
            "{new} is nothing to go back to: it is newer than what runs, and poisoned",
            "'swell rollout start' brings it",
        )],
        cure: &[Step::Told("swell release ls", "swell revert shop --yes --wait")],
        well: Well::Before,
    },
    Row {
        name: "a revert to a version under way",
        make: |world| {
            world.policy_with("", GATED);
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.ask("swell revert shop --to {before} --yes");
        },
        says: &[Says(
            &[Answer],
            "is under way: its hosts go back to what they ran before it",
            "revert without --to first",
        )],
        cure: &[Step::Told("revert without --to first", "swell revert shop --yes --wait")],
        well: Well::Old,
    },
    Row {
        name: "a release that cannot go back is reverted",
        make: |world| {
            let tree = world.tree(&world.new, "one_way = true\n");
            world.fleet.publish("shop", &world.new, &tree);
            world.wait_completed(&world.new.clone());
            world.ask("swell revert shop --yes");
            world.end();
            world.new = format!("{}.1", world.new);
        },
        says: &[Says(
            &[Answer],
            "the release is one-way and cannot be reverted",
            "publish a release that repairs it",
        )],
        cure: &[Step::Hand("publish a release that repairs it", World::publish)],
        well: Well::New,
    },
    Row {
        name: "the first release of a service is reverted at a terminal",
        make: |world| {
            world.policy_of_cart();
            world.publish_cart();
            world.ask_at_a_terminal("swell revert cart");
        },
        says: &[Says(
            &[Answer],
            "revert cart {new}, its first release: it stops on 2 hosts",
            "nothing of it runs there then? [y/N]",
        )],
        cure: &[Step::Told("[y/N]", "swell revert cart --stop --yes --wait")],
        well: Well::By(|world| {
            assert!(world.fleet.swell_ok(&["service", "show", "cart"]).contains("nothing  2"));
        }),
    },
    Row {
        name: "a service without a release is reverted",
        make: |world| world.ask("swell revert nothing --yes"),
        says: &[Says(&[Answer], "no service is called nothing", "see 'swell service ls'")],
        cure: &[Step::Typed("swell service ls")],
        well: Well::Quiet,
    },
    Row {
        name: "a second halt",
        make: |world| {
            world.policy_with("", GATED);
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.type_in("swell halt shop --why 'orders fail'");
            world.ask("swell halt shop");
        },
        says: &[
            Says(&[Answer], "is halted already", "no host is in the middle of a switch"),
            Says(
                &[Show],
                "ann halted it: orders fail",
                "'swell resume {id}' goes on before wave 2",
            ),
        ],
        cure: &[Step::Typed("swell resume shop"), Step::Hand("goes on before wave 2", approve)],
        well: Well::New,
    },
    Row {
        name: "a second pause",
        make: |world| {
            world.policy_with("", GATED);
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.type_in("swell pause shop --why lunch");
            world.ask("swell pause shop");
        },
        says: &[
            Says(&[Answer], "is paused already", "no host is in the middle of a switch"),
            Says(&[Show], "ann paused it: lunch", "'swell resume {id}' goes on before wave 2"),
        ],
        cure: &[Step::Typed("swell resume shop"), Step::Hand("goes on before wave 2", approve)],
        well: Well::New,
    },
    Row {
        name: "a host that is well is tried again",
        make: |world| world.ask("swell rollout retry shop --host web-2"),
        says: &[Says(
            &[Answer],
            "host web-2 neither failed nor was left out",
            "'swell show' of it says where it stands",
        )],
        cure: &[Step::Typed("swell show {id}")],
        well: Well::Old,
    },
    Row {
        name: "a host that nobody knows",
        make: |world| world.ask("swell host why web-9"),
        says: &[Says(&[Answer], "no host is called web-9", "see 'swell host ls'")],
        cure: &[Step::Typed("swell host ls")],
        well: Well::Quiet,
    },
    Row {
        name: "a service that is spelt wrong",
        make: |world| world.ask("swell resume shoop"),
        says: &[Says(
            &[Answer],
            "no rollout has this id, and no service of this name has a rollout",
            "see 'swell status'",
        )],
        cure: &[Step::Typed("swell status")],
        well: Well::Quiet,
    },
    Row {
        name: "a release that was never published",
        make: |world| world.ask("swell rollout start shop 9.9.9"),
        says: &[Says(
            &[Answer],
            "no release \"9.9.9\" is published",
            "give a release id or SERVICE@VERSION as published",
        )],
        cure: &[Step::Hand("as published", |world| {
            world.publish();
        })],
        well: Well::New,
    },
    Row {
        name: "a resume of what is not stopped",
        make: |world| world.ask("swell resume shop"),
        says: &[Says(
            &[Answer],
            "of shop {old} is over, completed; 'swell revert shop' takes it back",
            "'swell rollout start shop {old}' starts another",
        )],
        cure: &[Step::Hand("starts another", World::publish)],
        well: Well::New,
    },
    Row {
        name: "a promotion that nothing waits for",
        make: |world| {
            world.policy_with("", GATED);
            world.publish();
            world.wait_phase(PhaseName::Gated);
            world.ask("swell promote shop");
        },
        says: &[Says(
            &[Answer],
            "no wave waits for a promotion",
            "'swell show' says what it waits for",
        )],
        cure: &[
            Step::Told("swell show", "swell show shop"),
            Step::Hand("swell show", |world| {
                let shown = world.read(Show);
                assert!(shown.contains("wave 2 waits for approval: 0 of 1 persons"), "{shown}");
                world.type_in("swell approve {id} --yes");
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "a wave's selector is spelt wrong",
        make: |world| {
            let waves = "[[wave]]\nname = \"canary\"\nselector = \"canary=yse\"\ngate = \"approval\"\n\n\
                         [[wave]]\nrest = true\n";
            let file = world.policy_file(
                &POLICY.replace("[[wave]]\nname = \"everyone\"\nrest = true\n", waves),
            );
            world.ask(&format!("swell service apply {file}"));
        },
        says: &[
            Says(&[Answer], "wave canary: no host has canary=yse", "did you mean canary=yes?"),
            Says(
                &[Answer],
                "nothing is rolled out by it: plan shop: no host is in wave canary",
                "did you mean canary=yes?",
            ),
        ],
        cure: &[Step::Hand("did you mean canary=yes?", |world| {
            world.policy_with(
                "",
                "[[wave]]\nname = \"canary\"\nselector = \"canary=yes\"\n\n[[wave]]\nrest = true\n",
            );
            world.publish();
        })],
        well: Well::New,
    },
    Row {
        name: "a release is published of which no plan can be made",
        make: |world| {
            world.policy_with(
                "",
                "[[wave]]\nname = \"everyone\"\nrest = true\nmin_healthy = \"100%\"\n",
            );
            world.publish();
        },
        says: &[
            Says(
                &[Status],
                "! shop {new} cannot be rolled out: plan: all ",
                "lower its min_healthy; it starts by itself once that is mended",
            ),
            Says(&[Why], "{new} cannot be rolled out", "lower its min_healthy"),
        ],
        cure: &[Step::Hand("lower its min_healthy", |world| world.policy_with("", ""))],
        well: Well::New,
    },
    Row {
        name: "a wave that nobody is in, and may be empty",
        make: |world| {
            world.policy_with(
                "",
                "[[wave]]\nname = \"canary\"\nselector = \"canary=later\"\noptional = true\n\n[[wave]]\nrest = true\n",
            );
            world.publish();
            world.wait_completed(&world.new.clone());
            world.ask("swell plan shop");
        },
        says: &[
            Says(
                &[Answer, Plan],
                "wave canary of the policy has no host",
                "is left out, its gate with it",
            ),
            Says(&[Show], "wave canary", "has no host"),
        ],
        cure: &[Step::Hand("wave canary of the policy has no host", |world| {
            world.type_in("swell host label web-2 role=web,canary=later");
        })],
        well: Well::By(|world| {
            world.type_in("swell host label web-2 role=web");
            world.policy(POLICY);
        }),
    },
    Row {
        name: "a policy whose targets match nobody",
        make: |world| {
            let file = world.policy_file(&POLICY.replace("role=web", "role=wbe"));
            world.ask(&format!("swell service apply {file} --yes"));
        },
        says: &[
            Says(&[Answer], "targets: no host has role=wbe", "did you mean role=web?"),
            Says(
                &[Answer],
                "none of 2 hosts matches targets = \"role=wbe\"",
                "compare it with the labels in 'swell host ls'",
            ),
        ],
        cure: &[
            Step::Typed("swell host ls"),
            Step::Hand("did you mean role=web?", |world| {
                let file = world.policy_file(POLICY);
                world.type_in(&format!("swell service apply {file}"));
            }),
        ],
        well: Well::Old,
    },
    Row {
        name: "a policy with a key that there is not",
        make: |world| {
            let file = world.policy_file(&POLICY.replace("failure_budget", "failure_bugdet"));
            world.ask(&format!("swell service apply {file}"));
        },
        says: &[Says(
            &[Answer],
            "unknown field `failure_bugdet`",
            "correct the line named; see docs/policy.md",
        )],
        cure: &[Step::Hand("correct the line named", |world| {
            let file = world.policy_file(POLICY);
            world.type_in(&format!("swell service apply {file}"));
        })],
        well: Well::Old,
    },
    Row {
        name: "a service has releases and no policy",
        make: |world| {
            let tree = world.tree(&world.new, "");
            world.fleet.publish("basket", &world.new, &tree);
            world.ask("swell rollout start basket {new}");
        },
        says: &[
            Says(&[Answer], "service basket has no policy", "apply a policy first"),
            Says(&[Status], "no policy", "basket"),
        ],
        cure: &[Step::Hand("apply a policy first", |world| {
            let file = world.policy_file(&POLICY.replace("\"shop\"", "\"basket\""));
            world.type_in(&format!("swell service apply {file}"));
        })],
        well: Well::By(|world| {
            let version = world.new.clone();
            world.fleet.wait_for_version("basket", &version, &["web-1", "web-2"]);
        }),
    },
    Row {
        name: "a release that starts nothing",
        make: |world| {
            let tree = world.tree(&world.new, "");
            fs::write(tree.join("groundswell.toml"), "[release]\n").must("describe a release");
            world.ask("swell publish --service shop --version {new} {dir}/tree-{new}");
        },
        says: &[Says(
            &[Answer],
            "it names neither units nor a command, so a host would have nothing to start",
            "write units or command under [release] in groundswell.toml",
        )],
        cure: &[Step::Hand("command under [release] in groundswell.toml", World::publish)],
        well: Well::New,
    },
    Row {
        name: "a program that is not in the tree",
        make: |world| {
            world.tree(&world.new, "command = [\"bin/rnu\"]\n");
            world.ask("swell publish --service shop --version {new} {dir}/tree-{new}");
        },
        says: &[Says(
            &[Answer],
            "\"bin/rnu\": it is no file of the tree",
            "paths are relative to the directory",
        )],
        cure: &[Step::Hand("paths are relative", World::publish)],
        well: Well::New,
    },
    Row {
        name: "a program without its bit",
        make: |world| {
            let tree = world.tree(&world.new, "");
            let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(tree.join("bin/run"), plain).must("take the bit off");
            world.ask("swell publish --service shop --version {new} {dir}/tree-{new}");
        },
        says: &[Says(
            &[Answer],
            "\"bin/run\": it is not executable",
            "chmod +x it before publishing",
        )],
        cure: &[
            Step::Told("chmod +x", "chmod +x {dir}/tree-{new}/bin/run"),
            Step::Hand("before publishing", |world| {
                world.type_in("swell publish --service shop --version {new} {dir}/tree-{new}");
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "a version that exists with other content",
        make: |world| {
            fs::write(world.dir.join(format!("tree-{}/version", world.old)), "other")
                .must("change a tree");
            world.ask("swell publish --service shop --version {old} {dir}/tree-{old}");
        },
        says: &[Says(
            &[Answer],
            "version {old} of shop exists with other content",
            "publish changed content under a new version",
        )],
        cure: &[Step::Told(
            "under a new version",
            "swell publish --service shop --version {new} {dir}/tree-{old} --wait",
        )],
        well: Well::New,
    },
    Row {
        name: "nobody is there who could say yes",
        make: |world| world.ask("swell revert shop"),
        says: &[Says(
            &[Answer],
            "standard input is no terminal, so nobody can say yes",
            "add --yes",
        )],
        cure: &[Step::Told("add --yes", "swell revert shop --yes --wait")],
        well: Well::Before,
    },
    Row {
        name: "a plan that is not the one that was shown",
        make: |world| {
            let hash = "0".repeat(64);
            world.policy_with("auto = false", "");
            world.publish();
            world.ask(&format!("swell rollout start shop {{new}} --plan {hash}"));
        },
        says: &[Says(
            &[Answer],
            "was shown, and today's is",
            "look at 'swell plan' again and start what it shows now",
        )],
        cure: &[
            Step::Told("swell plan", "swell plan shop --release {new}"),
            Step::Told("start what it shows", "swell rollout start shop {new} --wait"),
        ],
        well: Well::New,
    },
    Row {
        name: "a service that runs nowhere is taken off",
        make: |world| {
            world.policy_of_cart();
            world.ask("swell service remove cart --yes");
        },
        says: &[Says(
            &[Answer],
            "no host runs anything of cart, so there is nothing to take off",
            "see 'swell host ls'",
        )],
        cure: &[Step::Typed("swell host ls")],
        well: Well::Quiet,
    },
    Row {
        name: "a release waits for its time",
        make: |world| {
            let tree = world.tree(&world.new, "");
            let tree = tree.display();
            world.ask(&format!(
                "swell publish --service shop --version {{new}} --at {} {tree}",
                in_a_month()
            ));
        },
        says: &[
            Says(
                &[Answer],
                "no rollout yet: {new} is held until",
                "'swell release cancel shop@{new} --why ...' takes that back",
            ),
            Says(&[Status, Service], "{new} is held until", "swell release cancel shop@{new}"),
        ],
        cure: &[
            Step::Typed("swell release cancel shop@{new} --why 'it is wanted now'"),
            Step::Told("takes that back", "swell rollout start shop {new} --wait"),
        ],
        well: Well::New,
    },
    Row {
        name: "nobody holds a release back",
        make: |world| world.ask("swell release cancel shop@{old} --why x"),
        says: &[Says(&[Answer], "nobody holds shop {old} back", "'swell status' says what waits")],
        cure: &[Step::Typed("swell status")],
        well: Well::Old,
    },
    Row {
        name: "a host is drained twice",
        make: |world| {
            world.type_in("swell host drain web-2 --why 'a new disk'");
            world.ask("swell host drain web-2 --why 'a new disk'");
        },
        says: &[
            Says(&[Answer], "host web-2 is drained already", "see 'swell host show'"),
            Says(
                &[Status],
                "an operator drained it: a new disk",
                "'swell host undrain web-2' lets it in again",
            ),
        ],
        cure: &[Step::Typed("swell host undrain web-2")],
        well: Well::Old,
    },
];

/// A moment that `swell` takes.
fn in_a_month() -> String {
    let mut date = std::process::Command::new("date");
    date.args(["--utc", "--date", "+30 days", "+%Y-%m-%dT22:00Z"]);
    groundswell_tests::fleet::succeed(&mut date).trim().to_owned()
}
