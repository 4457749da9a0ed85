//! Units and machines as people have them, on a host with a real systemd.

use std::time::Duration;

use groundswell_tests::hosts::{Bed, Host};
use groundswell_tests::must::Must as _;
use groundswell_tests::shop::{ENDLESS, NEVER_READY, READY, STAYS, booted};

use crate::table::Surface::{AgentWhy, Doctor, Host as Page, Ls, Show, Status, Why};
use crate::table::{Row, Says, Step, Well};
use crate::world::{World, program, quick_fleet};

const CONFIG: &str = "/etc/groundswell/agent.toml";
const SHOP: &str = "/etc/systemd/system/shop.service";
const TICK: &str = "/etc/systemd/system/tick.service";
const WORKER: &str = "/etc/systemd/system/worker.service";

const INSTALL: &str = "[Install]\nWantedBy=multi-user.target\n";
const PLAIN: &str =
    "[Service]\nExecStart=/bin/sleep inf\nDynamicUser=yes\n[Install]\nWantedBy=multi-user.target\n";

/// One booted host.
pub(crate) fn world(bed: &mut Bed) -> World {
    let fleet = quick_fleet(bed.dir(), &bed.addr().to_string());
    let unit = ENDLESS.replace("tree/run", "tree/bin/run") + INSTALL;
    let host = booted(bed, "web-1", &unit, &fleet.token("role=web,canary=yes"));
    host.exec_ok(&["systemctl", "enable", "shop.service"]);
    World::new(fleet, bed.dir(), Vec::new(), vec![host])
}

impl World {
    fn web(&self) -> &Host {
        self.hosts.first().must("find the booted host")
    }

    /// Publishes a release of units; `run` is its program.
    fn publish_units(&mut self, units: &str, run: &str) {
        let tree = self.tree(&self.new, &format!("units = [{units}]\n"));
        program(&tree, "run", run);
        self.fleet.publish("shop", &self.new, &tree);
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let host = self.web();
        let text = String::from_utf8(host.read_file(path).must("read a file")).must("read a file");
        assert!(text.contains(from), "{from:?} is not in {path}");
        host.install_file(path, text.replace(from, to).as_bytes(), 0o644);
    }

    /// The agent looks at units each minute, and when it starts.
    fn look_again(&self) {
        self.web().exec_ok(&["systemctl", "restart", "groundswell-apply"]);
    }

    fn reload(&self) {
        self.web().exec_ok(&["systemctl", "daemon-reload"]);
    }

    fn wait_state(&self, state: &str) {
        self.wait("that the unit is on its way", Duration::from_secs(30), || {
            let show = ["systemctl", "show", "--property=ActiveState", "--value", "shop.service"];
            (self.web().exec_ok(&show) == state).then_some(())
        });
    }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "a unit that its owner does not allow",
        make: |world| world.publish_units("\"shop.service\", \"other.service\"", READY),
        says: &[
            Says(&[Why, Show, Status], "unit other.service is not allowed", "add it to "),
            Says(&[Why, Show, Status, AgentWhy], "unit other.service is not allowed", "[services."),
            Says(&[Doctor], "shop is held: ", "it is tried again by itself"),
        ],
        cure: &[Step::Hand("add it to ", |world| {
            world.web().install_file("/etc/systemd/system/other.service", PLAIN.as_bytes(), 0o644);
            world.reload();
            world.edit(CONFIG, "\"worker.service\"", "\"worker.service\", \"other.service\"");
        })],
        well: Well::New,
    },
    Row {
        name: "a unit that is not on the host",
        make: |world| world.publish_units("\"shop.service\", \"worker.service\"", READY),
        says: &[
            Says(
                &[Why, Show, Status, AgentWhy],
                "unit worker.service is not",
                "install it, then 'systemctl daemon-reload'",
            ),
            Says(
                &[Doctor],
                "systemd knows no worker.service, which agent.toml allows",
                "write /etc/systemd/system/worker.service, then 'systemctl daemon-reload'",
            ),
        ],
        cure: &[
            Step::Hand("write /etc/systemd/system/worker.service", |world| {
                world.web().install_file(WORKER, PLAIN.as_bytes(), 0o644);
            }),
            Step::Typed("systemctl daemon-reload"),
        ],
        well: Well::New,
    },
    Row {
        name: "a unit that is masked",
        make: |world| {
            world.web().exec_ok(&["rm", WORKER]);
            world.web().exec_ok(&["systemctl", "mask", "worker.service"]);
            world.publish_units("\"shop.service\", \"worker.service\"", READY);
        },
        says: &[
            Says(
                &[Why, Show, Status, AgentWhy],
                "unit worker.service is masked",
                "'systemctl unmask",
            ),
            Says(&[Doctor], "worker.service is masked", "systemctl unmask worker.service"),
        ],
        cure: &[
            Step::Typed("systemctl unmask worker.service"),
            Step::Hand("worker.service", |world| {
                world.web().install_file(WORKER, PLAIN.as_bytes(), 0o644);
                world.reload();
            }),
        ],
        well: Well::New,
    },
    Row {
        name: "a unit that systemd cannot read",
        make: |world| {
            world.web().install_file(WORKER, b"[Service]\nType=oneshto\n", 0o644);
            world.reload();
            world.publish_units("\"shop.service\", \"worker.service\"", READY);
        },
        says: &[
            Says(&[Why, Show, Status, AgentWhy], "worker.service", "see 'systemctl status"),
            Says(
                &[Doctor],
                "systemd cannot use worker.service",
                "'systemd-analyze verify worker.service' says why",
            ),
        ],
        cure: &[
            Step::Hand("systemd-analyze verify worker.service", |world| {
                world.web().install_file(WORKER, PLAIN.as_bytes(), 0o644);
            }),
            Step::Typed("systemctl daemon-reload"),
        ],
        well: Well::New,
    },
    Row {
        name: "the user of a unit is not on the host",
        make: |world| {
            world.edit(SHOP, "DynamicUser=yes", "User=shopper");
            world.reload();
            world.publish_units("\"shop.service\"", READY);
        },
        says: &[Says(
            &[Why, Show, Status, AgentWhy, Doctor],
            "user shopper of unit shop.service is not on this host",
            "'useradd --system shopper'",
        )],
        cure: &[Step::Typed("useradd --system shopper")],
        well: Well::New,
    },
    Row {
        name: "a daemon-reload was forgotten",
        make: |world| {
            world.edit(SHOP, "[Service]", "[Service]\nNice=1");
            world.look_again();
        },
        says: &[
            Says(
                &[Why, Page],
                "systemd runs shop.service by files that were changed since",
                "'systemctl daemon-reload'",
            ),
            Says(
                &[Doctor],
                "the file of shop.service was changed since systemd read it",
                "systemctl daemon-reload",
            ),
        ],
        cure: &[
            Step::Typed("systemctl daemon-reload"),
            Step::Hand("systemctl daemon-reload", |world| world.look_again()),
        ],
        well: Well::Old,
    },
    Row {
        name: "a person stopped the unit",
        make: |world| {
            world.web().exec_ok(&["systemctl", "stop", "shop.service"]);
        },
        says: &[
            Says(
                &[Why, Page, Status, AgentWhy],
                "shop.service was stopped on this host and stays so",
                "'systemctl start shop.service' ends that",
            ),
            Says(&[Ls], "inconclusive", "shop.service was stopped"),
            Says(
                &[Doctor],
                "shop.service of shop was stopped on this host and stays so until it boots",
                "systemctl start shop.service",
            ),
        ],
        cure: &[Step::Typed("systemctl start shop.service")],
        well: Well::Old,
    },
    Row {
        name: "nothing starts the unit at a boot",
        make: |world| {
            world.web().exec_ok(&["systemctl", "disable", "shop.service"]);
        },
        says: &[Says(
            &[Doctor],
            "at boot nobody but the agent starts shop.service",
            "then 'systemctl enable shop.service'",
        )],
        cure: &[Step::Typed("systemctl enable shop.service")],
        well: Well::Old,
    },
    Row {
        name: "a release is never ready",
        make: |world| {
            world.publish_units("\"shop.service\"", NEVER_READY);
            world.wait_phase(groundswell_common::api::PhaseName::Done);
        },
        says: &[
            Says(&[Show], "RestartUnit shop.service: the job did not end", "the lock is taken"),
            Says(&[Why], "the job did not end", "the release before it is live again"),
            Says(
                &[Doctor],
                "a release failed here and the one before is back",
                "publish a corrected release",
            ),
        ],
        cure: &[Step::Hand("publish a corrected release", |world| {
            world.new = format!("{}.1", world.new);
            world.publish_units("\"shop.service\"", READY);
        })],
        well: Well::New,
    },
    Row {
        name: "a release is never ready, and is taken back by hand before its time is over",
        make: |world| {
            world.policy_with("probe_deadline_secs = 3000\nprogress_deadline_secs = 7200", "");
            world.publish_units("\"shop.service\"", NEVER_READY);
            world.wait_state("activating");
        },
        says: &[
            Says(&[AgentWhy], "what is live is being started, until", "at most"),
            Says(
                &[Why],
                "and what is live is being started",
                "what ran before and does not obey its stop is killed at",
            ),
            Says(&[Show], "1 in flight", "probing"),
        ],
        cure: &[Step::Told("1 in flight", "swell revert shop --yes --wait")],
        well: Well::Old,
    },
    Row {
        name: "what runs ignores its stop",
        make: |world| {
            world.publish_units("\"shop.service\"", STAYS);
            world.wait_completed(&world.new.clone());
            world.end();
            world.new = format!("{}.1", world.new);
            world.publish_units("\"shop.service\"", READY);
            world.wait_state("deactivating");
        },
        says: &[
            Says(&[AgentWhy], "what is live is being started, until", "at most"),
            Says(
                &[Why],
                "and what is live is being started",
                "what ran before and does not obey its stop is killed at",
            ),
            Says(&[Show], "1 in flight", "probing"),
        ],
        // At the deadline it is killed, and the new one runs.
        cure: &[Step::Hand("1 in flight", |world| world.wait_completed(&world.new.clone()))],
        well: Well::New,
    },
    Row {
        name: "what a timer starts fails each time",
        make: |world| {
            let tick = "[Service]\nType=oneshot\nExecStart=/bin/false\n";
            world.web().install_file(TICK, tick.as_bytes(), 0o644);
            let timer = "[Timer]\nOnActiveSec=1\nOnUnitInactiveSec=2\nAccuracySec=100ms\n";
            world.web().install_file("/etc/systemd/system/tick.timer", timer.as_bytes(), 0o644);
            world.reload();
            world.edit(CONFIG, "\"worker.service\"", "\"worker.service\", \"tick.timer\"");
            world.web().exec_ok(&["systemctl", "start", "tick.timer"]);
            world.wait("that it fails", Duration::from_secs(30), || {
                let show = ["systemctl", "show", "--property=Result", "--value", "tick.service"];
                (world.web().exec_ok(&show) == "exit-code").then_some(())
            });
            world.look_again();
        },
        says: &[Says(
            &[Why, Status],
            "tick.service failed when tick.timer started it last",
            "'systemctl status tick.service' there says why",
        )],
        cure: &[Step::Hand("'systemctl status tick.service' there says why", |world| {
            world.edit(TICK, "/bin/false", "/bin/true");
            world.reload();
            world.web().exec_ok(&["systemctl", "start", "tick.service"]);
            world.web().exec_ok(&["systemctl", "stop", "tick.timer"]);
            world.look_again();
        })],
        well: Well::Old,
    },
    Row {
        name: "one side of the agent was stopped",
        make: |world| {
            world.web().exec_ok(&["systemctl", "stop", "groundswell-agent"]);
        },
        says: &[
            Says(&[Why], "the host is not connected", "look at 'groundswell-agent doctor' there"),
            Says(&[Status], "! away: web-1", "0 of 1 host connected"),
            Says(&[Ls], "away", "web-1"),
            Says(&[Doctor], "the network side does not run", "systemctl start groundswell-agent"),
        ],
        cure: &[Step::Typed("systemctl start groundswell-agent")],
        well: Well::Old,
    },
    Row {
        name: "the side that switches was stopped",
        make: |world| {
            world.web().exec_ok(&["systemctl", "stop", "groundswell-apply"]);
        },
        says: &[
            Says(&[Doctor], "the apply side does not run", "systemctl start groundswell-apply"),
            Says(&[Why], "the host is not connected", "look at 'groundswell-agent doctor' there"),
        ],
        cure: &[Step::Typed("systemctl start groundswell-apply")],
        well: Well::Old,
    },
    Row {
        name: "a file of the agent is root's",
        make: |world| {
            world.web().exec_ok(&["chown", "root", "/var/lib/groundswell/identity.json"]);
        },
        says: &[Says(
            &[Doctor],
            "identity.json does not belong to groundswell-apply, who must use it",
            "chown --recursive groundswell-apply:groundswell-agent /var/lib/groundswell",
        )],
        cure: &[
            Step::Typed(
                "chown --recursive groundswell-apply:groundswell-agent /var/lib/groundswell",
            ),
            Step::Told("then restart groundswell-apply", "systemctl restart groundswell-apply"),
        ],
        well: Well::Old,
    },
    Row {
        name: "the settings of a booted host are broken",
        make: |world| world.edit(CONFIG, "units = ", "unit = "),
        says: &[
            Says(&[Why, Status, Page], "its agent.toml cannot be read", "unknown field `unit`"),
            Says(
                &[Doctor],
                "is not in force",
                "mend the file: it is read again within seconds, by itself",
            ),
        ],
        cure: &[Step::Hand("mend the file", |world| world.edit(CONFIG, "unit = ", "units = "))],
        well: Well::Old,
    },
    Row {
        name: "the bus is restarted in a switch",
        make: |world| {
            world.policy_with("probe_deadline_secs = 40\nprogress_deadline_secs = 120", "");
            world.publish_units(
                "\"shop.service\"",
                "#!/bin/sh\nsleep 3\nsystemd-notify --ready\nexec sleep inf\n",
            );
            world.wait_state("activating");
            world.web().exec_ok(&["systemctl", "restart", "dbus.service"]);
        },
        says: &[Says(&[AgentWhy], "what is live is being started, until", "at most")],
        cure: &[],
        well: Well::New,
    },
];
