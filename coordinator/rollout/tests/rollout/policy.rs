//! Reading policies.

use groundswell_common::Timestamp;
use groundswell_common::api::OperatorRole;
use groundswell_common::selector::Selector;
use groundswell_rollout::policy::PolicyFault;
use groundswell_rollout::{
    Amount, DomainPolicy, EvidencePolicy, Freeze, Gate, OnBreach, Order, Policy, PolicyError,
    Short, Take, WhenNewer, Window,
};

const HEAD: &str = "service = \"shop\"\ntargets = \"role=web\"\n";

fn fault(keys: &str) -> (usize, PolicyFault) {
    match Policy::from_toml(&format!("{HEAD}{keys}")) {
        Err(PolicyError::Rule { line, fault }) => (line, fault),
        other => panic!("{keys}: {other:?}"),
    }
}

#[test]
fn two_keys_are_a_policy_and_the_rest_has_defaults() {
    let policy = Policy::from_toml(HEAD).unwrap();
    let expected = Policy {
        service: "shop".parse().unwrap(),
        targets: "role=web".parse().unwrap(),
        auto: true,
        max_in_flight: Amount::Percent(10),
        held_budget: None,
        environment: None,
        promote_after_secs: 3_600,
        failure_budget: Amount::Count(0),
        rollout_budget: None,
        on_breach: OnBreach::RevertAll,
        order: Order::Seeded,
        weight_label: None,
        min_healthy: None,
        domain: None,
        quorum_label: None,
        windows: Vec::new(),
        freezes: Vec::new(),
        webhook: None,
        prefetch: false,
        straggler_max_in_flight: Amount::Percent(10),
        straggler_budget: Amount::Count(0),
        quarantine_after: 0,
        evidence: EvidencePolicy::default(),
        bake_secs: 60,
        host_bake_secs: 10,
        probe_deadline_secs: 60,
        probe_interval_secs: 1,
        confirm_by_contact: false,
        progress_deadline_secs: 600,
        absent_after_secs: 30,
        when_newer: WhenNewer::Supersede,
        waves: Policy::default_waves(),
    };
    assert_eq!(policy, expected);
    let takes: Vec<Take> = policy.waves.iter().map(|wave| wave.take.clone()).collect();
    assert_eq!(takes, [Take::Count(1), Take::Percent(25), Take::Rest]);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        service = "shop"
        targets = "*"
        auto = false
        max_in_flight = 4
        failure_budget = "5%"
        on_breach = "halt"
        bake_secs = 0
        host_bake_secs = 20
        probe_deadline_secs = 30
        probe_interval_secs = 2
        confirm_by_contact = true
        progress_deadline_secs = 51
        absent_after_secs = 5
        when_newer = "queue"
        [[wave]]
        name = "canary"
        selector = "canary"
        gate = "approval"
        approvals = 2
        bake_secs = 300
        max_in_flight = 1
        failure_budget = 1
        [[wave]]
        count = 3
        [[wave]]
        percent = 100
        gate = "approval"
    "#;
    let policy = Policy::from_toml(text).unwrap();
    assert!(policy.targets.is_everything());
    assert_eq!((policy.auto, policy.on_breach), (false, OnBreach::Halt));
    assert_eq!(policy.when_newer, WhenNewer::Queue);
    assert_eq!(policy.failure_budget, Amount::Percent(5));
    assert!(policy.confirm_by_contact);
    let [canary, three, all] = policy.waves.as_slice() else { panic!("{:?}", policy.waves) };
    assert_eq!(canary.take, Take::Selector("canary".parse::<Selector>().unwrap()));
    assert_eq!(
        (canary.gate, canary.bake_secs),
        (Gate { approvals: 2, ..Gate::default() }, Some(300))
    );
    assert_eq!(canary.max_in_flight, Some(Amount::Count(1)));
    assert_eq!(canary.failure_budget, Some(Amount::Count(1)));
    assert_eq!((three.name.as_str(), &three.take), ("wave-2", &Take::Count(3)));
    assert_eq!(
        (all.gate, &all.take),
        (Gate { approvals: 1, ..Gate::default() }, &Take::Percent(100))
    );
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    let record = groundswell_common::codec::to_record(1, &policy).unwrap();
    let read: Policy = groundswell_common::codec::from_record(1, &record).unwrap();
    assert_eq!(read, policy);
}

#[test]
fn each_broken_rule_names_its_line_and_what_to_write() {
    let bounds = |key, min, max| PolicyFault::Bounds { key, min, max };
    for (keys, line, expected) in [
        ("max_in_flight = \"x\"", 3, PolicyFault::Amount("max_in_flight")),
        ("max_in_flight = \"101%\"", 3, PolicyFault::Amount("max_in_flight")),
        ("max_in_flight = 0", 3, PolicyFault::NothingInFlight("max_in_flight")),
        ("max_in_flight = \"0%\"", 3, PolicyFault::NothingInFlight("max_in_flight")),
        ("failure_budget = -1", 3, PolicyFault::Amount("failure_budget")),
        ("failure_budget = 1.5", 3, PolicyFault::Amount("failure_budget")),
        ("\nprobe_deadline_secs = 0", 4, bounds("probe_deadline_secs", 1, 86_400)),
        ("probe_interval_secs = 0", 3, bounds("probe_interval_secs", 1, 86_400)),
        ("host_bake_secs = 604801", 3, bounds("host_bake_secs", 0, 604_800)),
        ("absent_after_secs = 0", 3, bounds("absent_after_secs", 1, 86_400)),
        ("bake_secs = 2592001", 3, bounds("bake_secs", 0, 2_592_000)),
        ("progress_deadline_secs = 70", 3, PolicyFault::Progress(70)),
        ("[[wave]]\nname = \"a\"", 3, PolicyFault::Take),
        ("[[wave]]\nrest = false", 3, PolicyFault::Take),
        ("[[wave]]\ncount = 1\npercent = 100", 3, PolicyFault::Take),
        ("[[wave]]\ncount = 0", 4, bounds("count", 1, 1_000_000)),
        ("[[wave]]\npercent = 101", 4, bounds("percent", 1, 100)),
        ("[[wave]]\ncount = 1", 3, PolicyFault::HostsLeft),
        ("[[wave]]\nselector = \"a\"", 3, PolicyFault::HostsLeft),
        ("[[wave]]\nrest = true\n[[wave]]\ncount = 1", 5, PolicyFault::AfterTheRest),
        (
            "[[wave]]\npercent = 50\n[[wave]]\npercent = 50\n[[wave]]\nrest = true",
            5,
            PolicyFault::PercentShrinks(50),
        ),
        (
            "[[wave]]\nname = \"a\"\ncount = 1\n[[wave]]\nname = \"a\"\nrest = true",
            6,
            PolicyFault::TwinWaves("a".parse().unwrap()),
        ),
        ("[[wave]]\nrest = true\napprovals = 1", 5, PolicyFault::ApprovalsWithoutGate),
        (
            "[[wave]]\nrest = true\ngate = \"approval\"\napprovals = 17",
            6,
            bounds("approvals", 1, 16),
        ),
    ] {
        assert_eq!(fault(keys), (line, expected), "{keys}");
    }
    let many = "[[wave]]\ncount = 1\n".repeat(65);
    assert_eq!(fault(&many).1, PolicyFault::TooManyWaves);
    let counts = "[[wave]]\ncount = 1\n".repeat(63);
    let most = Policy::from_toml(&format!("{HEAD}{counts}[[wave]]\nrest = true")).unwrap();
    assert_eq!(most.waves.len(), 64);
}

const WHOLE: &str = r#"
    version = 1
    service = "shop"
    targets = "*"
    rollout_budget = "2%"
    on_breach = "revert-wave"
    order = "broken-first"
    weight_label = "capacity"
    min_healthy = "80%"
    quorum_label = "cluster"
    webhook = "http://127.0.0.1:8080/gate"
    prefetch = true
    straggler_max_in_flight = 2
    straggler_budget = 3
    quarantine_after = 4
    when_newer = "hotfix"
    [failure_domain]
    label = "rack"
    at_once = 2
    min_healthy = "50%"
    [evidence]
    host_secs = 3600
    hosts = 5
    short = "ask"
    [[window]]
    days = ["sat", "mon", "sat"]
    start = "22:05"
    minutes = 90
    zone = "Europe/Berlin"
    [[window]]
    days = "weekdays"
    start = "04:00"
    minutes = 60
    [[freeze]]
    from = "2026-12-20T00:00:00+01:00"
    until = "2027-01-03T00:00:00+01:00"
    why = "holidays"
    [[wave]]
    count = 1
    gate = ["approval", "manual", "webhook"]
    approvals = 2
    four_eyes = true
    approver_role = "approver"
    min_healthy = 1
    [[wave]]
    rest = true
    gate = "manual"
"#;

#[test]
fn every_key_beyond_waves_is_read() {
    let policy = Policy::from_toml(WHOLE).unwrap();
    assert_eq!(policy.rollout_budget, Some(Amount::Percent(2)));
    assert_eq!((policy.on_breach, policy.order), (OnBreach::RevertWave, Order::BrokenFirst));
    assert_eq!(policy.weight_label, Some("capacity".parse().unwrap()));
    assert_eq!(policy.min_healthy, Some(Amount::Percent(80)));
    assert_eq!(policy.quorum_label, Some("cluster".parse().unwrap()));
    assert_eq!(policy.webhook.as_deref(), Some("http://127.0.0.1:8080/gate"));
    assert!(policy.prefetch);
    assert_eq!(policy.straggler_max_in_flight, Amount::Count(2));
    assert_eq!(policy.straggler_budget, Amount::Count(3));
    assert_eq!((policy.quarantine_after, policy.when_newer), (4, WhenNewer::Hotfix));
    let label = "rack".parse().unwrap();
    let domain = DomainPolicy { label, at_once: 2, min_healthy: Amount::Percent(50) };
    assert_eq!(policy.domain, Some(domain));
    assert_eq!(policy.evidence, EvidencePolicy { host_secs: 3_600, hosts: 5, short: Short::Ask });
    let window = |days: &[u8], start_minute, minutes, zone: &str| Window {
        days: days.to_vec(),
        start_minute,
        minutes,
        zone: zone.to_owned(),
    };
    let berlin = window(&[0, 5], 22 * 60 + 5, 90, "Europe/Berlin");
    assert_eq!(policy.windows, [berlin, window(&[0, 1, 2, 3, 4], 240, 60, "UTC")]);
    let freeze = Freeze {
        from: Timestamp::from_secs(1_797_721_200),
        until: Timestamp::from_secs(1_798_930_800),
        why: "holidays".to_owned(),
    };
    assert_eq!(policy.freezes, [freeze]);
    let role = Some(OperatorRole::Approver);
    let all = Gate { approvals: 2, four_eyes: true, role, manual: true, webhook: true };
    assert_eq!(policy.waves[0].gate, all);
    assert_eq!(policy.waves[0].min_healthy, Some(Amount::Count(1)));
    assert_eq!(policy.waves[1].gate, Gate { manual: true, ..Gate::default() });
}

#[test]
fn each_fault_beyond_waves_names_its_line_and_what_to_write() {
    let bounds = |key, min, max| PolicyFault::Bounds { key, min, max };
    let window = |key: &str| format!("[[window]]\nstart = \"01:00\"\nminutes = 5\n{key}");
    let wave = |key: &str| format!("[[wave]]\nrest = true\n{key}");
    let freeze = |from: &str, until: &str| {
        format!("[[freeze]]\nwhy = \"x\"\nfrom = \"{from}\"\nuntil = \"{until}\"")
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let atlantis = "Europe/Atlantis".to_owned();
    let too_many = |key, max| PolicyFault::TooMany { key, max };
    for (keys, line, expected) in [
        ("version = 2".to_owned(), 3, PolicyFault::Version(2)),
        ("straggler_max_in_flight = 0".to_owned(), 3, {
            PolicyFault::NothingInFlight("straggler_max_in_flight")
        }),
        ("rollout_budget = \"x\"".to_owned(), 3, PolicyFault::Amount("rollout_budget")),
        ("quarantine_after = 101".to_owned(), 3, bounds("quarantine_after", 0, 100)),
        ("webhook = \"ftp://x\"".to_owned(), 3, PolicyFault::Webhook),
        ("webhook = \"http://\"".to_owned(), 3, PolicyFault::Webhook),
        ("[failure_domain]\nlabel = \"rack\"\nat_once = 0".to_owned(), 5, {
            bounds("at_once", 1, 1_000_000)
        }),
        ("[evidence]\nhosts = 1000001".to_owned(), 4, bounds("hosts", 0, 1_000_000)),
        (window("days = []"), 6, PolicyFault::Days),
        (window("days = [\"monday\"]"), 6, PolicyFault::Days),
        (window("days = 3"), 6, PolicyFault::Days),
        (window("zone = \"Europe/Atlantis\""), 6, PolicyFault::Zone(atlantis)),
        ("[[window]]\nstart = \"24:00\"\nminutes = 5".to_owned(), 4, PolicyFault::Start),
        ("[[window]]\nstart = \"1:00\"\nminutes = 5".to_owned(), 4, PolicyFault::Start),
        ("[[window]]\nstart = \"01:00\"\nminutes = 0".to_owned(), 5, {
            bounds("minutes", 1, 10_080)
        }),
        (freeze("yesterday", late), 5, PolicyFault::Moment("from")),
        (freeze(early, "2026-02-01T00:00:00"), 6, PolicyFault::Moment("until")),
        (freeze(late, early), 6, PolicyFault::FreezeBackwards),
        (wave("gate = \"vote\""), 5, PolicyFault::Gate),
        (wave("gate = []"), 5, PolicyFault::Gate),
        (wave("gate = [\"manual\", 3]"), 5, PolicyFault::Gate),
        (wave("gate = \"webhook\""), 3, PolicyFault::WebhookMissing),
        (wave("gate = \"manual\"\nfour_eyes = true"), 6, PolicyFault::ApprovalsWithoutGate),
        (wave("gate = \"approval\"\napprover_role = \"viewer\""), 6, PolicyFault::ApproverRole),
        (format!("{}\n", window("")).repeat(33), 131, too_many("[[window]]", 32)),
        (format!("{}\n", freeze(early, late)).repeat(65), 259, too_many("[[freeze]]", 64)),
    ] {
        assert_eq!(fault(&keys), (line, expected), "{keys}");
    }
}

#[test]
fn targets_are_asked_for_in_words() {
    let error = Policy::from_toml("service = \"shop\"\ntargets = \" \"").unwrap_err();
    assert_eq!(error.line(), Some(2));
    assert_eq!(error.hint(), "targets is empty; write targets = \"*\" for every host");
    let error = Policy::from_toml("service = \"shop\"\ntargets = \"a b\"").unwrap_err();
    assert!(matches!(&error, PolicyError::Selector { line: 2, .. }), "{error:?}");
    assert!(error.hint().contains("key in (a,b)"), "{}", error.hint());
    let error = Policy::from_toml("service = \"Shop\"\ntargets = \"*\"").unwrap_err();
    assert!(matches!(&error, PolicyError::Name { line: 1, .. }), "{error:?}");
}

#[test]
fn what_is_no_policy_names_the_line_too() {
    for (keys, line, says) in [
        ("retries = 3", 3, "unknown field `retries`"),
        ("auto = 3", 3, "expected a boolean"),
        ("on_breach = \"panic\"", 3, "unknown variant `panic`"),
        ("bake_secs = -1", 3, "invalid value"),
        ("[[wave]]\nrest = true\nwindow = 3", 5, "unknown field `window`"),
        ("\n\nbake_secs = ", 5, "string values must be quoted"),
    ] {
        let error = Policy::from_toml(&format!("{HEAD}{keys}")).unwrap_err();
        assert!(matches!(&error, PolicyError::Toml { .. }), "{error:?}");
        assert_eq!(error.line(), Some(line), "{keys}");
        assert!(error.hint().contains(says), "{keys}: {}", error.hint());
    }
    let error = Policy::from_toml("targets = \"*\"").unwrap_err();
    assert!(error.hint().contains("missing field `service`"), "{}", error.hint());
    let most = "#".repeat(64 * 1024);
    assert!(matches!(Policy::from_toml(&most), Err(PolicyError::Toml { .. })));
    let long = "#".repeat(64 * 1024 + 1);
    let error = Policy::from_toml(&long).unwrap_err();
    assert!(matches!(error, PolicyError::TooLarge { bytes: 65_537 }));
}

#[test]
fn amounts_round_down() {
    for (amount, hosts, expected) in [
        (Amount::Count(4), 2, 4),
        (Amount::Percent(25), 7, 1),
        (Amount::Percent(25), 3, 0),
        (Amount::Percent(100), 7, 7),
        (Amount::Percent(0), 7, 0),
    ] {
        assert_eq!(amount.of(hosts), expected, "{amount:?} of {hosts}");
    }
}

#[test]
fn days_times_and_counts_are_read_to_their_ends() {
    let days = |days: &str| {
        let window = format!("[[window]]\ndays = {days}\nstart = \"23:59\"\nminutes = 60");
        Policy::from_toml(&format!("{HEAD}{window}")).map(|policy| policy.windows[0].days.clone())
    };
    assert_eq!(days("\"daily\"").unwrap(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(days("\"weekdays\"").unwrap(), [0, 1, 2, 3, 4]);
    assert!(days("\"weekends\"").is_err());
    for start in ["24:00", "23:60"] {
        let window = format!("[[window]]\nstart = \"{start}\"\nminutes = 60");
        assert!(Policy::from_toml(&format!("{HEAD}{window}")).is_err(), "{start}");
    }
    for (count, is_read) in [(1_000_000, true), (1_000_001, false)] {
        let read = Policy::from_toml(&format!("{HEAD}failure_budget = {count}"));
        assert_eq!(read.is_ok(), is_read, "{count}");
    }
}

const TWO: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 600
failure_budget = 2
[[freeze]]
from = "2026-12-20T00:00:00Z"
until = "2027-01-02T00:00:00Z"
why = "holidays"
[[wave]]
name = "all"
rest = true
[[environment]]
name = "staging"
promote_after_secs = 1800
bake_secs = 60
freeze = []
[[environment]]
name = "production"
[environment.evidence]
host_secs = 90
[[environment.wave]]
count = 1
gate = "manual"
[[environment.wave]]
rest = true
"#;

#[test]
fn a_section_is_read_over_the_top_and_inherits_the_rest() {
    let (staging, behind) = Policy::each_from_toml(TWO).unwrap();
    let [production] = behind.as_slice() else { panic!("two sections") };
    assert_eq!(staging, Policy::from_toml(TWO).unwrap(), "the first one alone");
    assert_eq!(staging.environment, Some("staging".parse().unwrap()));
    assert_eq!(production.environment, Some("production".parse().unwrap()));
    assert_eq!((staging.bake_secs, production.bake_secs), (60, 600));
    assert_eq!((staging.promote_after_secs, production.promote_after_secs), (1_800, 3_600));
    assert_eq!((staging.freezes.len(), production.freezes.len()), (0, 1));
    assert_eq!((staging.waves.len(), production.waves.len()), (1, 2));
    assert_eq!((staging.evidence.host_secs, production.evidence.host_secs), (0, 90));
    for policy in [&staging, production] {
        assert_eq!(policy.failure_budget, Amount::Count(2));
        assert_eq!(policy.targets, "role=web".parse().unwrap());
    }
    let alone = Policy::each_from_toml(HEAD).unwrap();
    assert_eq!((alone.0.environment, alone.1.len()), (None, 0));
}

#[test]
fn what_is_wrong_with_a_section_is_named_with_its_line() {
    let sections = "[[environment]]\nname = \"staging\"\n";
    let lines = HEAD.lines().count();
    let twin = "staging".parse().unwrap();
    for (keys, line, want) in [
        ("[[environment]]\nbake_secs = 1\n", 1, PolicyFault::Environments),
        ("environment = \"staging\"\n", 1, PolicyFault::Environments),
        ("environment = []\n", 1, PolicyFault::Environments),
        (&*format!("{sections}{sections}"), 1, PolicyFault::TwinEnvironments(twin)),
        (&*format!("{sections}service = \"shop\"\n"), 3, PolicyFault::OfTheService("service")),
        (
            &*format!("{sections}max_in_flight = 0\n"),
            3,
            PolicyFault::NothingInFlight("max_in_flight"),
        ),
        (
            &*format!("{sections}promote_after_secs = 2592001\n"),
            3,
            PolicyFault::Bounds { key: "promote_after_secs", min: 0, max: 2_592_000 },
        ),
    ] {
        assert_eq!(fault(keys), (lines + line, want), "{keys}");
    }
    for (keys, line) in [("name = \"staging\"\n", 1), (&*format!("{sections}bake = 1\n"), 3)] {
        match Policy::from_toml(&format!("{HEAD}{keys}")) {
            Err(PolicyError::Toml { line: at, .. }) => assert_eq!(at, lines + line, "{keys}"),
            other => panic!("{keys}: {other:?}"),
        }
    }
    let many: String =
        (0..17).map(|number| format!("[[environment]]\nname = \"e{number}\"\n")).collect();
    assert!(matches!(fault(&many).1, PolicyFault::TooMany { max: 16, .. }));
}
