//! Units as people have them, on a host with a real systemd. Jobs that do not end: each switch ends within its
//! deadline, an order to go back is taken up at once. A bus that breaks, a unit that is missing: they speak against
//! nobody. What ran to its end or was stopped is left alone; a report has lines of its own run only.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use groundswell_common::api::{OutcomeName, RolloutPage};
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Host, bed};
use groundswell_tests::shop::{ENDLESS, Log, NEVER_READY, READY, STAYS, one_host_with};
use groundswell_tests::wait::until;

const SLOW: &str = "#!/bin/sh\nsleep 5\nsystemd-notify --ready\nexec sleep inf\n";
/// Serves ten seconds after its start.
const SLOW_PROBE: &str =
    "#!/bin/sh\nsystemd-notify --ready\nsleep 10\ntouch /run/shop/ready\nexec sleep inf\n";
/// Ends by itself in its bake.
const CRASHES: &str = "#!/bin/sh\nsystemd-notify --ready\nsleep 4\nexit 1\n";
/// Longer than any test waits: what ends before did not wait for it.
const LONG_SECS: u64 = 3_000;
const SHOP: &str = "/var/lib/groundswell/services/shop";

fn policy(probe_deadline_secs: u64) -> String {
    format!(
        "service = \"shop\"\ntargets = \"role=web\"\nfailure_budget = 0\non_breach = \"revert\"\n\
         bake_secs = 1\nhost_bake_secs = 6\nprobe_deadline_secs = {probe_deadline_secs}\n\
         progress_deadline_secs = 7200\n\n[[wave]]\nname = \"all\"\npercent = 100\n"
    )
}

#[test]
fn a_start_that_never_ends_goes_back_at_the_deadline_or_when_it_is_told() {
    bed("a_start_that_never_ends_goes_back_at_the_deadline_or_when_it_is_told", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let page = ends(&fleet, bed.dir(), "2.0", NEVER_READY);
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
        let why = fleet.swell_ok(&["rollout", "show", page.rollout.rollout.as_str()]);
        assert!(why.contains("RestartUnit shop.service: the job did not end"), "{why}");
        runs(&host, "1.0");

        // Nothing but an order ends these.
        fleet.apply(&policy(LONG_SECS));
        publish(&fleet, bed.dir(), "3.0", NEVER_READY);
        starts(&host);
        fleet.swell_ok(&["revert", "shop", "--yes"]);
        runs(&host, "1.0");
        publish(&fleet, bed.dir(), "4.0", NEVER_READY);
        starts(&host);
        // The agent that starts again waits on, and is told as well.
        host.exec_ok(&["systemctl", "restart", "groundswell-apply"]);
        host.exec_ok(&["groundswell-agent", "revert", "shop", "--reason", "it hangs"]);
        runs(&host, "1.0");
    });
}

#[test]
fn a_service_that_ignores_its_stop_is_killed_at_the_deadline_and_the_next_release_runs() {
    let name =
        "a_service_that_ignores_its_stop_is_killed_at_the_deadline_and_the_next_release_runs";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(6), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", STAYS);
        let began = Instant::now();
        completes(&fleet, bed.dir(), "2.0", READY);
        assert!(began.elapsed() > Duration::from_secs(6), "it had its time to stop");
        runs(&host, "2.0");
        // What may be killed is what was asked to stop, and nothing else.
        let user = ["setpriv", "--reuid=groundswell-apply", "--regid=groundswell-agent"];
        let bare = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"];
        let kill = ["systemctl", "--no-ask-password", "kill", "shop.service"];
        let refused = host.exec(&[&user[..], &bare, &kill].concat());
        assert!(!refused.status.success(), "an active unit may not be killed");
    });
}

#[test]
fn a_bus_that_breaks_in_a_switch_and_in_a_bake_speaks_against_nobody() {
    bed("a_bus_that_breaks_in_a_switch_and_in_a_bake_speaks_against_nobody", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(40), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        publish(&fleet, bed.dir(), "2.0", SLOW);
        starts(&host);
        let before = invocation(&host);
        host.exec_ok(&["systemctl", "restart", "dbus.service"]);
        bakes(&fleet);
        host.exec_ok(&["systemctl", "restart", "dbus.service"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
        assert_eq!(invocation(&host), before, "it was started once");
    });
}

#[test]
fn a_host_that_is_shut_down_in_a_switch_and_in_a_bake_speaks_against_nobody() {
    let name = "a_host_that_is_shut_down_in_a_switch_and_in_a_bake_speaks_against_nobody";
    bed(name, |bed| {
        let (fleet, mut host) = one_host_with(bed, &policy(40), ENDLESS);
        completes(&fleet, bed.dir(), "1.0", READY);
        let again = |host: &mut Host| {
            host.power_off();
            host.power_on();
            host.wait_up();
        };
        // Systemd cancels the job under way, and ends what runs, before it ends the agent or after it.
        publish(&fleet, bed.dir(), "2.0", SLOW);
        starts(&host);
        again(&mut host);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
        publish(&fleet, bed.dir(), "3.0", READY);
        bakes(&fleet);
        again(&mut host);
        let page = fleet.wait_end("shop", "3.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "3.0");
    });
}

#[test]
fn a_person_who_stops_the_unit_in_a_switch_says_nothing_against_the_release() {
    let name = "a_person_who_stops_the_unit_in_a_switch_says_nothing_against_the_release";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(40), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        publish(&fleet, bed.dir(), "2.0", SLOW);
        starts(&host);
        host.exec_ok(&["systemctl", "stop", "shop.service"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
    });
}

#[test]
fn a_person_who_stops_or_restarts_the_unit_in_a_bake_says_nothing_against_the_release() {
    let name = "a_person_who_stops_or_restarts_the_unit_in_a_bake_says_nothing_against_the_release";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        publish(&fleet, bed.dir(), "2.0", READY);
        bakes(&fleet);
        host.exec_ok(&["systemctl", "stop", "shop.service"]);
        let next = "'systemctl start shop.service' lets it go on";
        until("the desk to say that it is held", ROLLOUT_BOUND, || {
            let why = fleet.swell_ok(&["host", "why", "web-1"]);
            why.contains(next).then_some(())
        });
        let here = host.exec_ok(&["groundswell-agent", "why", "shop"]);
        assert!(here.contains(next), "{here}");
        // It stays stopped for longer than its bake would have lasted.
        std::thread::sleep(Duration::from_secs(12));
        assert_eq!(state(&host).trim(), "inactive");
        let page = fleet.newest_rollout("shop");
        assert!(page.hosts.iter().all(|host| host.progress == "held"), "{page:?}");
        host.exec_ok(&["systemctl", "start", "shop.service"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");

        publish(&fleet, bed.dir(), "3.0", READY);
        bakes(&fleet);
        host.exec_ok(&["systemctl", "restart", "shop.service"]);
        let page = fleet.wait_end("shop", "3.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "3.0");
        let log = host.exec_ok(&["journalctl", "--no-pager", "-u", "groundswell-apply.service"]);
        let anew =
            |why: &str| log.contains(&format!("why=\"{why}\"")) || log.contains("started anew");
        assert!(anew("well"), "{log}");
    });
}

#[test]
fn who_restarts_a_unit_that_starts_slowly_gives_it_its_time_again_and_a_healer_hides_no_crash() {
    let name = "who_restarts_a_unit_that_starts_slowly_gives_it_its_time_again_and_a_healer_hides_no_crash";
    bed(name, |bed| {
        let spec = "[release]\nunits = [\"shop.service\"]\n\
                    [[probe]]\nkind = \"file\"\npath = \"/run/shop/ready\"\n";
        let (fleet, host) = one_host_with(bed, &policy(16), ENDLESS);
        let _log = Log(&host);
        let run = b"[Service]\nRuntimeDirectory=shop\n";
        host.install_file("/etc/systemd/system/shop.service.d/run.conf", run, 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        completes(&fleet, bed.dir(), "1.0", READY);
        let restarted = |version: &str, when: &dyn Fn()| {
            publish_as(&fleet, bed.dir(), (version, SLOW_PROBE), spec);
            when();
            host.exec_ok(&["systemctl", "restart", "shop.service"]);
            let page = fleet.wait_end("shop", version);
            assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
            runs(&host, version);
        };
        restarted("2.0", &|| {
            until("its probes", ROLLOUT_BOUND, || {
                let page = fleet.newest_rollout("shop");
                page.hosts.iter().any(|host| host.progress == "probing").then_some(())
            });
            std::thread::sleep(Duration::from_secs(6));
        });
        restarted("3.0", &|| bakes(&fleet));

        publish(&fleet, bed.dir(), "4.0", CRASHES);
        bakes(&fleet);
        host.exec(&[
            "timeout",
            "20",
            "sh",
            "-c",
            "until systemctl is-failed -q shop; do :; done; systemctl restart shop",
        ]);
        let page = fleet.wait_end("shop", "4.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
    });
}

#[test]
fn a_oneshot_at_its_work_beside_its_timer_is_no_failure() {
    bed("a_oneshot_at_its_work_beside_its_timer_is_no_failure", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        let job = b"[Service]\nType=oneshot\nExecStart=/bin/sleep 2\n";
        host.install_file("/etc/systemd/system/worker.service", job, 0o644);
        let timer = b"[Timer]\nOnActiveSec=1\nOnUnitInactiveSec=1\nAccuracySec=1ms\n";
        host.install_file("/etc/systemd/system/worker.timer", timer, 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        let config = "/etc/groundswell/agent.toml";
        host.exec_ok(&[
            "sed",
            "-i",
            "s/\"worker.service\"/\"worker.service\", \"worker.timer\"/",
            config,
        ]);
        for version in ["1.0", "2.0"] {
            let units = ["worker.service", "worker.timer"];
            publish_with(&fleet, bed.dir(), (version, READY), &units);
            let page = fleet.wait_end("shop", version);
            assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        }
    });
}

#[test]
fn what_somebody_has_stopped_in_its_bake_holds_up_neither_a_newer_release_nor_a_revert() {
    let name =
        "what_somebody_has_stopped_in_its_bake_holds_up_neither_a_newer_release_nor_a_revert";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        let stopped = |version: &str| {
            publish(&fleet, bed.dir(), version, READY);
            bakes(&fleet);
            host.exec_ok(&["systemctl", "stop", "shop.service"]);
            until("the host to be held", ROLLOUT_BOUND, || {
                let page = fleet.newest_rollout("shop");
                page.hosts.iter().any(|host| host.progress == "held").then_some(())
            });
        };
        completes(&fleet, bed.dir(), "1.0", READY);
        stopped("2.0");
        completes(&fleet, bed.dir(), "3.0", READY);
        runs(&host, "3.0");
        stopped("4.0");
        fleet.swell_ok(&["revert", "shop", "--yes", "--wait"]);
        runs(&host, "3.0");
    });
}

#[test]
fn a_unit_that_ends_by_itself_and_takes_another_with_it_fails_the_release() {
    let name = "a_unit_that_ends_by_itself_and_takes_another_with_it_fails_the_release";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let worker = format!("[Service]\nExecStart=/bin/sh {SHOP}/current/worker\n");
        host.install_file("/etc/systemd/system/worker.service", worker.as_bytes(), 0o644);
        let bound = b"[Unit]\nBindsTo=worker.service\nAfter=worker.service\n";
        host.install_file("/etc/systemd/system/shop.service.d/bound.conf", bound, 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        let tree = bed.dir().join("2.0");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("worker"), "sleep 4; exit 3\n").unwrap();
        publish_with(&fleet, bed.dir(), ("2.0", READY), &["worker.service", "shop.service"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
    });
}

#[test]
fn a_link_or_a_journal_that_somebody_changed_in_a_bake_says_nothing_against_the_release() {
    let name =
        "a_link_or_a_journal_that_somebody_changed_in_a_bake_says_nothing_against_the_release";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        publish(&fleet, bed.dir(), "2.0", READY);
        bakes(&fleet);
        host.exec_ok(&["rm", &format!("{SHOP}/current")]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
        let desk = fleet.swell_ok(&["host", "why", "web-1"]);
        assert!(desk.contains("was removed on this host and is put back"), "{desk}");

        publish(&fleet, bed.dir(), "3.0", READY);
        bakes(&fleet);
        let before = invocation(&host);
        host.exec_ok(&["sh", "-c", &format!("echo garbage >{SHOP}/journal.json")]);
        host.exec_ok(&["systemctl", "kill", "--signal=KILL", "groundswell-apply"]);
        until("held", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            assert_eq!(page.rollout.outcome, None, "{page:?}");
            page.hosts.iter().any(|host| host.progress == "held").then_some(())
        });
        let desk = fleet.swell_ok(&["host", "why", "web-1"]);
        assert!(desk.contains("'groundswell-agent unstick'"), "{desk}");
        assert_eq!(invocation(&host), before, "what runs was not touched");
        host.exec_ok(&["systemctl", "stop", "groundswell-agent", "groundswell-apply"]);
        host.exec_ok(&["groundswell-agent", "unstick", "shop"]);
        host.exec_ok(&["systemctl", "start", "groundswell-agent", "groundswell-apply"]);
        let page = fleet.wait_end("shop", "3.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "3.0");
    });
}

#[test]
fn an_ordered_way_back_to_what_the_host_could_not_start_leaves_what_runs_alone() {
    let name = "an_ordered_way_back_to_what_the_host_could_not_start_leaves_what_runs_alone";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        for version in ["1.0", "2.0"] {
            completes(&fleet, bed.dir(), version, READY);
        }
        let before = invocation(&host);
        let ghost = ENDLESS.replace("DynamicUser=yes", "User=ghost");
        host.install_file("/etc/systemd/system/shop.service", ghost.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        fleet.swell_ok(&["revert", "shop", "--yes"]);
        until("the cause at the desk", ROLLOUT_BOUND, || {
            let desk = fleet.swell_ok(&["host", "why", "web-1"]);
            (desk.contains("ghost") && desk.contains("useradd")).then_some(())
        });
        assert_eq!((state(&host).as_str(), invocation(&host)), ("active", before), "2.0 runs on");
        host.exec_ok(&["useradd", "--system", "ghost"]);
        runs(&host, "1.0");
    });
}

#[test]
fn a_damaged_directive_does_not_outlive_an_enrolment() {
    bed("a_damaged_directive_does_not_outlive_an_enrolment", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let before = invocation(&host);
        // One that is refused, since the host's name is taken, leaves all as it was.
        let token = fleet.token("role=web");
        let refused = host.exec(&["groundswell-agent", "enroll", "--again", &token]);
        assert!(!refused.status.success(), "{refused:?}");
        completes(&fleet, bed.dir(), "1.1", READY);
        host.exec_ok(&["truncate", "--size=0", "/var/lib/groundswell/directive.json"]);
        host.exec(&["systemctl", "restart", "groundswell-apply"]);
        until("the step in the agent's log", ROLLOUT_BOUND, || {
            let log = host.exec_ok(&["journalctl", "--unit=groundswell-apply", "--output=cat"]);
            log.contains("'groundswell-agent enroll --again TOKEN'").then_some(())
        });
        fleet.swell_ok(&["host", "remove", "web-1", "--yes"]);
        let token = fleet.token("role=web");
        host.exec_ok(&["groundswell-agent", "enroll", "--again", &token]);
        host.exec_ok(&["systemctl", "restart", "groundswell-agent", "groundswell-apply"]);
        completes(&fleet, bed.dir(), "2.0", READY);
        runs(&host, "2.0");
        assert_ne!(invocation(&host), before);
    });
}

fn bakes(fleet: &Fleet) {
    until("a bake", ROLLOUT_BOUND, || {
        let page = fleet.newest_rollout("shop");
        page.hosts.iter().any(|host| host.progress == "baking").then_some(())
    });
}

fn invocation(host: &Host) -> String {
    host.exec_ok(&["systemctl", "show", "--property=InvocationID", "--value", "shop.service"])
}

#[test]
fn a_unit_that_is_missing_holds_the_host_and_is_enough_to_cure_it() {
    bed("a_unit_that_is_missing_holds_the_host_and_is_enough_to_cure_it", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let before = invocation(&host);
        publish_with(&fleet, bed.dir(), ("2.0", READY), &["shop.service", "worker.service"]);
        until("the cause", ROLLOUT_BOUND, || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            why.contains("unit worker.service is not on this host; install it").then_some(())
        });
        assert_eq!(invocation(&host), before, "what runs is not touched");
        let worker = ENDLESS.replace("Type=notify", "Type=exec");
        host.install_file("/etc/systemd/system/worker.service", worker.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
        // What only the newer release has may be gone when the host goes back.
        host.exec_ok(&["systemctl", "stop", "worker.service"]);
        host.exec_ok(&["rm", "/etc/systemd/system/worker.service"]);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        host.exec_ok(&["groundswell-agent", "revert", "shop", "--reason", "the worker is gone"]);
        runs(&host, "1.0");
    });
}

#[test]
fn a_forgotten_reload_of_systemd_is_said_and_is_enough_to_cure_it() {
    bed("a_forgotten_reload_of_systemd_is_said_and_is_enough_to_cure_it", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let mark = b"[Service]\nEnvironment=MARK=two\n";
        host.install_file("/etc/systemd/system/shop.service.d/a.conf", mark, 0o644);
        completes(&fleet, bed.dir(), "2.0", READY);
        let said = |host: &Host| {
            let doctor =
                String::from_utf8(host.exec(&["groundswell-agent", "doctor"]).stdout).unwrap();
            let why = fleet.swell_ok(&["host", "why", "web-1"]);
            let words = "systemd runs shop.service by files that were changed since; 'systemctl daemon-reload'";
            (doctor.contains("the file of shop.service was changed"), why.contains(words))
        };
        until("the reload to be missed", ROLLOUT_BOUND, || {
            (said(&host) == (true, true)).then_some(())
        });
        host.exec_ok(&["systemctl", "daemon-reload"]);
        until("nothing to be missed", ROLLOUT_BOUND, || {
            (said(&host) == (false, false)).then_some(())
        });
        completes(&fleet, bed.dir(), "3.0", READY);
        let environment = ["systemctl", "show", "--property=Environment", "shop.service"];
        assert!(host.exec_ok(&environment).contains("MARK=two"));
    });
}

#[test]
fn what_ran_to_its_end_runs_once_and_what_was_stopped_stays_so_until_a_boot() {
    let name = "what_ran_to_its_end_runs_once_and_what_was_stopped_stays_so_until_a_boot";
    bed(name, |bed| {
        let job = "[Service]\nType=oneshot\nDynamicUser=yes\nStateDirectory=worker\n\
                   ExecStart=/bin/sh -c 'echo ran >> /var/lib/worker/runs'\n";
        let (fleet, mut host) = one_host_with(bed, &policy(20), ENDLESS);
        host.install_file("/etc/systemd/system/worker.service", job.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        publish_with(&fleet, bed.dir(), ("1.0", READY), &["worker.service", "shop.service"]);
        let page = fleet.wait_end("shop", "1.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        let starts_again = |host: &Host, starts: usize| {
            host.exec_ok(&["systemctl", "restart", "groundswell-apply"]);
            until("the agent again", ROLLOUT_BOUND, || {
                let said = ["journalctl", "--unit=groundswell-apply", "--output=cat"];
                let said = host.exec_ok(&said);
                (said.matches("the network side is here").count() >= starts).then_some(())
            });
        };
        starts_again(&host, 2);
        host.exec_ok(&["systemctl", "stop", "shop.service"]);
        let health = |host: &Host| host.exec_ok(&["groundswell-agent", "status", "--json"]);
        until("that it was stopped", ROLLOUT_BOUND, || {
            health(&host).contains("\"health\": \"inconclusive\"").then_some(())
        });
        starts_again(&host, 3);
        assert_eq!(state(&host), "inactive", "a person stopped it");
        assert_eq!(host.exec_ok(&["cat", "/var/lib/private/worker/runs"]), "ran", "once");
        host.power_off();
        host.power_on();
        host.wait_up();
        runs(&host, "1.0");
        assert_eq!(host.exec_ok(&["cat", "/var/lib/private/worker/runs"]), "ran", "once for good");
    });
}

#[test]
fn a_failure_has_lines_of_its_own_run_and_of_nobody_else() {
    bed("a_failure_has_lines_of_its_own_run_and_of_nobody_else", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(8), ENDLESS);
        let _log = Log(&host);
        let one = "#!/bin/sh\ntrap 'echo last words of one; exit 0' TERM\necho first words of one\n\
                   systemd-notify --ready\nwhile :; do sleep 0.1; done\n";
        completes(&fleet, bed.dir(), "1.0", one);
        host.exec_ok(&["logger", "a secret of another"]);
        let page = ends(&fleet, bed.dir(), "2.0", "#!/bin/sh\necho two is broken\nexit 3\n");
        let shown = fleet.swell_ok(&["rollout", "show", page.rollout.rollout.as_str()]);
        assert!(shown.contains("two is broken"), "{shown}");
        assert!(!shown.contains("words of one") && !shown.contains("a secret"), "{shown}");
        runs(&host, "1.0");
    });
}

#[test]
fn a_user_that_is_missing_holds_the_host_and_useradd_is_enough_to_cure_it() {
    bed("a_user_that_is_missing_holds_the_host_and_useradd_is_enough_to_cure_it", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let before = invocation(&host);
        let own = ENDLESS.replace("DynamicUser=yes", "User=shopper");
        host.install_file("/etc/systemd/system/shop.service", own.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        publish(&fleet, bed.dir(), "2.0", READY);
        until("the cause", ROLLOUT_BOUND, || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            let desk = fleet.swell_ok(&["host", "why", "web-1"]);
            (why.contains("shopper") && desk.contains("shopper")).then_some(())
        });
        assert_eq!(invocation(&host), before, "what runs is not touched");
        host.exec_ok(&["useradd", "--system", "shopper"]);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
    });
}

#[test]
fn a_program_that_is_missing_holds_the_host_before_what_runs_is_stopped() {
    bed("a_program_that_is_missing_holds_the_host_before_what_runs_is_stopped", |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0", READY);
        let before = invocation(&host);
        let run = "/var/lib/groundswell/services/shop/current/tree/run";
        let own = ENDLESS.replace(run, &format!("/opt/wrapper {run}"));
        host.install_file("/etc/systemd/system/shop.service", own.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        publish(&fleet, bed.dir(), "2.0", READY);
        until("the cause", ROLLOUT_BOUND, || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            why.contains("starts /opt/wrapper, which is not on this host").then_some(())
        });
        assert_eq!(invocation(&host), before, "what runs is not touched");
        host.install_file("/opt/wrapper", b"#!/bin/sh\nexec \"$@\"\n", 0o755);
        let page = fleet.wait_end("shop", "2.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        runs(&host, "2.0");
    });
}

#[test]
fn what_cannot_go_back_says_why_and_comes_back_by_itself_or_by_hand_once_it_can() {
    let name = "what_cannot_go_back_says_why_and_comes_back_by_itself_or_by_hand_once_it_can";
    bed(name, |bed| {
        let may = "/etc/may-start";
        let start = "ExecStart=";
        let gated =
            ENDLESS.replace(start, &format!("ExecStartPre=/usr/bin/test -e {may}\n{start}"));
        let (fleet, host) = one_host_with(bed, &policy(20), &gated);
        let _log = Log(&host);
        host.exec_ok(&["touch", may]);
        for version in ["1.0", "2.0", "3.0"] {
            completes(&fleet, bed.dir(), version, READY);
        }
        let is_stuck = || {
            until("stuck", ROLLOUT_BOUND, || {
                let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
                why.contains("stuck: going back failed: ").then_some(why)
            })
        };
        // Nobody but the agent brings it back.
        host.exec_ok(&["rm", may]);
        let back = fleet.swell(&["revert", "shop", "--yes", "--wait"]).output().unwrap();
        let said = String::from_utf8_lossy(&back.stderr).into_owned();
        assert_eq!(back.status.code(), Some(3), "{said}");
        assert!(said.contains("1 host did not go back: web-1"), "{said}");
        let why = is_stuck();
        assert!(why.contains("'groundswell-agent retry shop'"), "{why}");
        let desk = fleet.swell_ok(&["host", "why", "web-1"]);
        assert!(desk.contains("'groundswell-agent retry shop' there"), "{desk}");
        host.exec_ok(&["touch", may]);
        runs(&host, "2.0");
        until("at rest", ROLLOUT_BOUND, || {
            let status = host.exec_ok(&["groundswell-agent", "status"]);
            status.contains("shop  2.0  committed").then_some(())
        });
        // In a pause a person does.
        host.exec_ok(&["rm", may]);
        fleet.swell_ok(&["revert", "shop", "--yes"]);
        is_stuck();
        host.exec_ok(&["groundswell-agent", "pause", "shop", "--reason", "a look"]);
        host.exec_ok(&["touch", may]);
        host.exec_ok(&["groundswell-agent", "retry", "shop"]);
        runs(&host, "1.0");
        until("nothing to tell", ROLLOUT_BOUND, || {
            let desk = fleet.swell_ok(&["host", "why", "web-1"]);
            (!desk.contains("stuck")).then_some(())
        });
    });
}

#[test]
fn timers_sockets_and_instances_of_templates_are_switched_as_people_have_them() {
    let name = "timers_sockets_and_instances_of_templates_are_switched_as_people_have_them";
    bed(name, |bed| {
        let (fleet, host) = one_host_with(bed, &policy(20), ENDLESS);
        let _log = Log(&host);
        let job = "[Service]\nType=oneshot\nDynamicUser=yes\nStateDirectory=job\nExecStart=/bin/sh -c \
                   'cat /var/lib/groundswell/services/shop/current/tree/word >> /var/lib/job/words'\n";
        let echo = "[Service]\nDynamicUser=yes\nStandardInput=socket\nStandardOutput=socket\n\
                    ExecStart=/bin/cat /var/lib/groundswell/services/shop/current/tree/word\n";
        let worker = "[Service]\nDynamicUser=yes\nExecStart=\
                      /var/lib/groundswell/services/shop/releases/%i/tree/run\n";
        for (unit, text) in [
            ("job.timer", "[Timer]\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n"),
            ("job.service", job),
            ("echo.socket", "[Socket]\nListenStream=/run/echo\nAccept=yes\n"),
            ("echo@.service", echo),
            ("worker@.service", worker),
        ] {
            host.install_file(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644);
        }
        let config = "/etc/groundswell/agent.toml";
        let text = String::from_utf8(host.read_file(config).unwrap()).unwrap();
        let allowed = "\"job.timer\", \"echo.socket\", \"worker@.service\"";
        let text = text.replace("\"worker.service\"", allowed);
        host.install_file(config, text.as_bytes(), 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        host.exec_ok(&["systemctl", "reload", "groundswell-apply"]);

        let units = ["job.timer", "echo.socket", "worker@.service"];
        let bring = |version: &str, run: &str| {
            let tree = bed.dir().join(version);
            fs::create_dir_all(&tree).unwrap();
            fs::write(tree.join("word"), format!("{version}\n")).unwrap();
            publish_with(&fleet, bed.dir(), (version, run), &units);
            fleet.wait_end("shop", version).rollout.outcome
        };
        let words = || host.exec_ok(&["cat", "/var/lib/private/job/words"]);
        let echoed = || {
            let line = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/echo'); \
                        print(s.recv(64).decode().strip())";
            host.exec_ok(&["python3", "-c", line])
        };
        let workers = || {
            let list = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active"];
            host.exec_ok(&[&list[..], &["worker@*"]].concat()).lines().count()
        };
        let is_on = |version: &str| {
            until(&format!("the timer on {version}"), ROLLOUT_BOUND, || {
                words().ends_with(version).then_some(())
            });
            assert_eq!((echoed().as_str(), workers()), (version, 1));
            let shown = ["systemctl", "is-active", "job.timer", "echo.socket"];
            assert_eq!(host.exec_ok(&shown), "active\nactive");
        };
        let sleeps = "#!/bin/sh\nexec sleep inf\n";
        assert_eq!(bring("1.0", sleeps), Some(OutcomeName::Completed));
        is_on("1.0");
        assert_eq!(bring("2.0", sleeps), Some(OutcomeName::Completed));
        is_on("2.0");
        // An instance that ends takes timer and socket back with it.
        assert_eq!(bring("3.0", "#!/bin/sh\nexit 1\n"), Some(OutcomeName::Reverted));
        is_on("2.0");
    });
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, run: &str) {
    publish_with(fleet, dir, (version, run), &["shop.service"]);
}

fn publish_with(fleet: &Fleet, dir: &Path, what: (&str, &str), units: &[&str]) {
    publish_as(fleet, dir, what, &format!("[release]\nunits = {units:?}\n"));
}

fn publish_as(fleet: &Fleet, dir: &Path, (version, run): (&str, &str), spec: &str) {
    let tree = dir.join(version);
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("run"), run).unwrap();
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    fleet.publish("shop", version, &tree);
}

fn ends(fleet: &Fleet, dir: &Path, version: &str, run: &str) -> RolloutPage {
    publish(fleet, dir, version, run);
    fleet.wait_end("shop", version)
}

fn completes(fleet: &Fleet, dir: &Path, version: &str, run: &str) {
    let page = ends(fleet, dir, version, run);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

fn state(host: &Host) -> String {
    host.exec_ok(&["systemctl", "show", "--property=ActiveState", "--value", "shop.service"])
}

/// Waits until the unit is being started.
fn starts(host: &Host) {
    until("the start of the unit", ROLLOUT_BOUND, || (state(host) == "activating").then_some(()));
}

/// Waits until the unit is up on this version.
fn runs(host: &Host, version: &str) {
    let manifest = &format!("{SHOP}/current/manifest.json");
    until(&format!("{version} to run"), Duration::from_secs(60), || {
        let live = host.exec_ok(&["cat", manifest]);
        let is_live = live.contains(&format!("\"version\":\"{version}\""));
        (is_live && state(host) == "active").then_some(())
    });
}
