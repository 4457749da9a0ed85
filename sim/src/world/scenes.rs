//! What people met, each as the shortest story that showed it: no chance and no other fault, so that what is
//! drawn may change and the story stays.

use groundswell_common::report::Verdict;
use groundswell_common::{ServiceName, Timestamp};
use groundswell_rollout::ProgressName;

use super::{Number, World};
use crate::check::Property;
use crate::draw::{SERVICES, spelt};
use crate::host::Host;
use crate::site::Nature;

/// Events within which a story is over.
const EVENTS_MAX: usize = 2_000;

fn shop() -> ServiceName {
    spelt(SERVICES[0])
}

/// Nothing may fail, and everything goes back.
fn strict() -> String {
    let service = shop();
    format!(
        "service = \"{service}\"\ntargets = \"*\"\nmax_in_flight = 1\nfailure_budget = 0\n\
         on_breach = \"revert-all\"\nbake_secs = 0\nhost_bake_secs = 10\n[[wave]]\ncount = 1\n\
         [[wave]]\nrest = true\n"
    )
}

/// A fleet that has run the first release of one service for long.
fn fleet(hosts: u64) -> World {
    let mut world = World::new(1, &Property::ALL);
    world.faults_on = false;
    world.services.truncate(1);
    world.begin(hosts, true).unwrap();
    drop(world.control().put_policy(&spelt("ann"), &shop(), &strict()));
    world.settle().unwrap();
    world
}

impl World {
    fn until_over(&mut self) {
        for _ in 0..EVENTS_MAX {
            let over = self.newest(&shop()).is_none_or(groundswell_rollout::Rollout::is_over);
            if over && self.is_quiet() {
                return;
            }
            if !self.event().unwrap() {
                return;
            }
        }
    }

    fn for_secs(&mut self, secs: u64) {
        let until = self.now.plus_secs(secs);
        while self.now < until && self.event().unwrap() {}
    }

    fn is_quiet(&self) -> bool {
        self.mail.is_empty() && !self.hosts.values().any(Host::in_flight)
    }

    fn brings(&mut self, nature: Nature) {
        self.bring(&shop(), |_| nature).unwrap();
        self.until_over();
    }

    fn lot_of(&mut self, number: Number) -> &mut crate::site::Lot {
        &mut self.hosts.get_mut(&number).unwrap().sites.get_mut(&shop()).unwrap().lot
    }

    fn runs(&self, number: Number) -> Option<u64> {
        let live = self.hosts[&number].sites[&shop()].live?;
        (0..9).find(|known| crate::draw::release(&shop(), *known).0 == live)
    }

    /// What the newest rollout says of a machine.
    fn counts_as(&self, number: Number) -> Option<ProgressName> {
        let key = self.hosts[&number].key;
        self.newest(&shop())?.host(&key).map(|entry| entry.progress.name())
    }

    /// Persons go on wherever they are asked, until it is over.
    fn finish(&mut self) {
        for _ in 0..EVENTS_MAX {
            let asked = self.person(&shop()).unwrap();
            let over = self.newest(&shop()).is_none_or(groundswell_rollout::Rollout::is_over);
            if !asked && ((over && self.is_quiet()) || !self.event().unwrap()) {
                break;
            }
        }
        // Late hosts come after the end.
        self.for_secs(300);
    }

    /// The story ends as it should.
    fn holds(&mut self) {
        self.ended().unwrap();
        assert!(self.out.not_held.is_empty(), "{:?}", self.out.not_held);
    }
}

#[test]
fn a_new_host_that_does_not_allow_the_unit_takes_nobody_down() {
    let mut world = fleet(3);
    let new = world.new_host().unwrap();
    world.lot_of(new).allowed = false;
    world.link(new).unwrap();
    world.for_secs(60);
    world.clear_host(new).unwrap();
    world.start_by_hand(&shop(), 0).unwrap();
    world.for_secs(3_600);
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
    assert_eq!(world.runs(new), None);
    world.lot_of(new).allowed = true;
    world.say(new);
    world.finish();
    world.holds();
    assert_eq!(world.runs(new), Some(0));
}

#[test]
fn what_was_cleared_stays_cleared_when_a_host_comes_back() {
    let mut world = fleet(3);
    world.brings(Nature::DeadAtSwitch);
    let bad = crate::draw::release(&shop(), 1).0;
    assert!(world.office.view().releases[&bad].poisoned.is_some());
    world.control().clear(&spelt("ann"), &bad, "the port was taken").unwrap();
    world.truth.clears(bad);
    world.settle().unwrap();
    world.link(0).unwrap();
    world.for_secs(10);
    world.holds();
    assert_eq!(world.office.view().releases[&bad].poisoned, None);
}

#[test]
fn a_host_whose_unit_was_missing_commits_only_what_has_passed() {
    let mut world = fleet(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let key = world.newest(&shop()).unwrap().plan().waves[1].hosts[0].id;
    let late = *world.hosts.iter().find(|(_, host)| host.key == key).unwrap().0;
    world.lot_of(late).installed = false;
    world.for_secs(3_600);
    world.lot_of(late).installed = true;
    world.say(late);
    world.finish();
    world.holds();
    let standing = world.hosts[&late].sites[&shop()].standing();
    assert_eq!((standing.health, world.runs(late)), (Verdict::Pass, Some(1)));
}

#[test]
fn after_a_failed_release_there_is_a_way_back_to_the_one_before() {
    let mut world = fleet(3);
    world.brings(Nature::Good);
    world.brings(Nature::DeadAtSwitch);
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
    world.go_back(&shop()).unwrap();
    world.until_over();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
}

#[test]
fn a_revert_reaches_a_host_that_enrolled_after_the_rollout() {
    let mut world = fleet(3);
    world.brings(Nature::Good);
    let new = world.new_host().unwrap();
    world.link(new).unwrap();
    world.for_secs(60);
    assert_eq!(world.runs(new), Some(1));
    world.go_back(&shop()).unwrap();
    world.until_over();
    world.for_secs(60);
    world.holds();
    assert_eq!(world.runs(new), Some(0));
}

#[test]
fn a_host_that_came_while_a_way_back_to_nothing_was_halted_goes_back_once_it_goes_on() {
    let mut world = fleet(3);
    let name = crate::draw::host_name(2);
    world.control().remove_host(&spelt("ann"), &name).unwrap();
    world.settle().unwrap();
    world.brings(Nature::Good);
    world.go_back(&shop()).unwrap();
    world.until_over();
    world.go_back(&shop()).unwrap();
    world.halt(&shop()).unwrap();
    world.enrol(2).unwrap();
    world.link(2).unwrap();
    world.for_secs(60);
    assert_eq!(world.runs(2), Some(0), "halted is halted");
    assert!(world.tell(&shop(), groundswell_control::Verb::Resume).unwrap());
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [None; 3]);
}

#[test]
fn a_host_that_its_owner_paused_says_nothing_against_a_release() {
    let mut world = fleet(3);
    world
        .host(1, |host, now| host.sites.get_mut(&shop()).unwrap().pause(Some("new memory"), now))
        .unwrap();
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(3_600);
    assert_eq!(world.runs(1), Some(0));
    world.host(1, |host, now| host.sites.get_mut(&shop()).unwrap().pause(None, now)).unwrap();
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
}

#[test]
fn a_host_that_does_not_allow_the_unit_says_nothing_against_a_release() {
    let mut world = fleet(3);
    world.lot_of(1).allowed = false;
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(3_600);
    assert_eq!(world.runs(1), Some(0));
    world.lot_of(1).allowed = true;
    world.say(1);
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
}

#[test]
fn a_disk_without_room_says_nothing_against_a_release() {
    let mut world = fleet(3);
    world.lot_of(1).room = false;
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(3_600);
    assert_eq!(world.runs(1), Some(0));
    world.lot_of(1).room = true;
    world.say(1);
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
}

#[test]
fn bytes_that_do_not_arrive_say_nothing_against_a_release() {
    let mut world = fleet(3);
    for number in 0..3 {
        world.lot_of(number).fetches = false;
    }
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(3_600);
    for number in 0..3 {
        world.lot_of(number).fetches = true;
    }
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
}

#[test]
fn an_older_release_that_is_started_by_hand_is_not_poisoned_for_it() {
    let mut world = fleet(3);
    world.brings(Nature::Good);
    world.brings(Nature::Good);
    world.go_back(&shop()).unwrap();
    world.until_over();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1); 3]);
    world.start_by_hand(&shop(), 0).unwrap();
    world.until_over();
    world.holds();
}

#[test]
fn a_snapshot_that_is_put_back_is_not_committed_any_more() {
    let mut world = fleet(3);
    world.snapshot(1).unwrap();
    world.brings(Nature::Good);
    assert_eq!(world.runs(1), Some(1));
    world.snapshot(1).unwrap();
    world.for_secs(120);
    world.holds();
    assert_eq!(world.runs(1), Some(1));
}

#[test]
fn a_start_job_that_never_ends_does_not_hold_a_host_for_ever() {
    let mut world = fleet(3);
    world.brings(Nature::Hangs);
    world.for_secs(600);
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
}

#[test]
fn a_slow_disk_renames_nothing_after_a_halt_was_answered() {
    let mut world = fleet(1);
    world.lot_of(0).fsync_millis = 10_000;
    world.bring(&shop(), |_| Nature::Good).unwrap();
    while !world.hosts[&0].in_flight() {
        assert!(world.event().unwrap());
    }
    world.halt(&shop()).unwrap();
    world.for_secs(30);
    assert_eq!(world.runs(0), Some(0));
    world.lot_of(0).fsync_millis = 1;
    world.finish();
    world.holds();
    assert_eq!(world.runs(0), Some(1));
}

#[test]
fn a_host_whose_permit_ran_out_and_whose_line_went_poisons_nothing() {
    let mut world = fleet(1);
    world.lot_of(0).fsync_millis = 10_000;
    world.bring(&shop(), |_| Nature::Good).unwrap();
    while !world.hosts[&0].in_flight() {
        assert!(world.event().unwrap());
    }
    world.for_secs(1);
    world.cut(0).unwrap();
    world.for_secs(3_600);
    assert_eq!(world.runs(0), Some(0));
    let good = crate::draw::release(&shop(), 1).0;
    assert_eq!(world.office.view().releases[&good].poisoned, None);
    assert!(world.newest(&shop()).unwrap().phase().breach().is_some(), "it stopped all the same");
}

#[test]
fn a_release_that_is_rolled_out_twice_is_taken_back_where_either_brought_it() {
    let mut world = fleet(3);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    while world.runs(0) != Some(1) && world.runs(1) != Some(1) && world.runs(2) != Some(1) {
        assert!(world.event().unwrap());
    }
    world.for_secs(30);
    world.start_by_hand(&shop(), 1).unwrap();
    world.go_back(&shop()).unwrap();
    world.until_over();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
}

#[test]
fn the_newest_that_runs_is_left_though_an_older_one_was_started_since() {
    let mut world = fleet(3);
    let pauses = |world: &mut World, why: Option<&'static str>| {
        let act = |host: &mut Host, now| host.sites.get_mut(&shop()).unwrap().pause(why, now);
        world.host(2, act).unwrap();
    };
    pauses(&mut world, Some("new memory"));
    world.brings(Nature::Good);
    world.start_by_hand(&shop(), 0).unwrap();
    world.for_secs(3_600);
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(1), Some(1), Some(0)]);
    pauses(&mut world, None);
    world.go_back(&shop()).unwrap();
    let (left, _) = crate::draw::release(&shop(), 1);
    assert_eq!(world.newest(&shop()).unwrap().release(), left);
    world.until_over();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
}

#[test]
fn what_most_hosts_run_is_left_though_an_older_one_failed_and_nothing_is_proven_any_more() {
    let mut world = fleet(4);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let run = |world: &World| (0..4).filter(|number| world.runs(*number) == Some(1)).count();
    while run(&world) < 3 || world.hosts.values().any(Host::in_flight) {
        assert!(world.event().unwrap());
    }
    world.halt(&shop()).unwrap();
    world.for_secs(60);
    // The older one runs on the last host, and fails on a new one.
    let new = world.new_host().unwrap();
    world.link(new).unwrap();
    world.start_by_hand(&shop(), 0).unwrap();
    while !world.hosts[&new].in_flight() {
        assert!(world.event().unwrap());
    }
    world.lot_of(new).installed = false;
    world.until_over();
    assert_eq!(world.newest(&shop()).unwrap().release(), crate::draw::release(&shop(), 0).0);
    world.lot_of(new).installed = true;
    world.go_back(&shop()).unwrap();
    let (left, _) = crate::draw::release(&shop(), 1);
    assert_eq!(world.newest(&shop()).unwrap().release(), left);
    world.until_over();
    world.holds();
    assert_eq!(run(&world), 0);
}

#[test]
fn the_newest_that_most_run_is_left_though_they_are_away() {
    let mut world = fleet(4);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let run = |world: &World| (0..4).filter(|number| world.runs(*number) == Some(1)).count();
    while run(&world) < 3 || world.hosts.values().any(Host::in_flight) {
        assert!(world.event().unwrap());
    }
    world.halt(&shop()).unwrap();
    world.for_secs(60);
    // The older one runs on the last host, and so its rollout is over at once.
    world.start_by_hand(&shop(), 0).unwrap();
    world.until_over();
    let away: Vec<Number> = (0..4).filter(|number| world.runs(*number) == Some(1)).collect();
    for number in &away {
        world.cut(*number).unwrap();
    }
    world.go_back(&shop()).unwrap();
    let (left, _) = crate::draw::release(&shop(), 1);
    assert_eq!(world.newest(&shop()).unwrap().release(), left);
    for number in away {
        world.link(number).unwrap();
    }
    world.for_secs(600);
    world.holds();
    assert_eq!([0, 1, 2, 3].map(|number| world.runs(number)), [Some(0); 4]);
}

#[test]
fn what_new_hosts_get_is_left_though_an_older_one_was_started_since_and_failed() {
    let mut world = fleet(3);
    let pauses = |world: &mut World, why: Option<&'static str>| {
        let act = |host: &mut Host, now| host.sites.get_mut(&shop()).unwrap().pause(why, now);
        world.host(2, act).unwrap();
    };
    pauses(&mut world, Some("new memory"));
    world.brings(Nature::Good);
    world.brings(Nature::DeadAtSwitch);
    // The older one runs on the host that was late, and fails on a new one.
    let new = world.new_host().unwrap();
    world.link(new).unwrap();
    world.start_by_hand(&shop(), 0).unwrap();
    while !world.hosts[&new].in_flight() {
        assert!(world.event().unwrap());
    }
    world.lot_of(new).installed = false;
    world.until_over();
    assert_eq!(world.newest(&shop()).unwrap().release(), crate::draw::release(&shop(), 0).0);
    world.lot_of(new).installed = true;
    pauses(&mut world, None);
    world.go_back(&shop()).unwrap();
    let (left, _) = crate::draw::release(&shop(), 1);
    assert_eq!(world.newest(&shop()).unwrap().release(), left);
    world.until_over();
    world.holds();
    let still = [0, 1, 2, new].map(|number| world.runs(number) == Some(1));
    assert_eq!(still, [false; 4]);
}

/// A host is in the middle of a switch, and so many plans between leave it out.
fn is_left_out_in_the_middle_of_it(plans: u64) {
    let mut world = fleet(2);
    let to_web = strict().replace("targets = \"*\"", "targets = \"role=web\"");
    drop(world.control().put_policy(&spelt("ann"), &shop(), &to_web));
    for number in 0..2 {
        world.label(number, spelt("rack=r1,role=web")).unwrap();
    }
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let busy =
        |world: &World| world.hosts.iter().find(|(_, host)| host.in_flight()).map(|at| *at.0);
    while busy(&world).is_none() {
        assert!(world.event().unwrap());
    }
    let number = busy(&world).unwrap();
    world.label(number, spelt("rack=r1,role=db")).unwrap();
    let key = world.hosts[&number].key;
    for _ in 0..plans {
        world.bring(&shop(), |_| Nature::Good).unwrap();
        assert!(world.newest(&shop()).unwrap().host(&key).is_none(), "left out");
    }
    world.label(number, spelt("rack=r1,role=web")).unwrap();
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let entry = world.newest(&shop()).unwrap().host(&key).unwrap();
    assert!(entry.busy.is_some(), "{entry:?}");
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1)], [Some(plans + 2); 2]);
}

#[test]
fn who_is_in_the_middle_of_it_counts_though_a_plan_between_left_it_out() {
    is_left_out_in_the_middle_of_it(1);
}

#[test]
fn who_is_in_the_middle_of_it_counts_though_two_plans_between_left_it_out() {
    is_left_out_in_the_middle_of_it(2);
}

#[test]
fn a_key_of_two_machines_is_let_go_after_a_restart_too() {
    let mut world = fleet(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let key = world.hosts[&1].key;
    world.clone_machine(1);
    let copy = world.made - 1;
    for _ in 0..3 {
        world.link(1).unwrap();
        world.for_secs(5);
        world.link(copy).unwrap();
        world.for_secs(5);
    }
    assert!(world.office.control.is_twin(&key));
    world.hosts.remove(&copy);
    let view = world.replay().unwrap().unwrap();
    world.start_office(view).unwrap();
    for number in 0..2 {
        world.link(number).unwrap();
    }
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1)], [Some(1); 2]);
}

impl World {
    /// The coordinator starts again; the newest entry of this kind became durable, what follows it did not.
    fn starts_again_after(&mut self, kind: &str) {
        let of_the_kind = |payload: &Vec<u8>| String::from_utf8_lossy(payload).contains(kind);
        let last = self.office.ledger.iter().rposition(of_the_kind).unwrap();
        self.office.ledger.truncate(last + 1);
        let view = self.replayed().unwrap();
        self.start_office(view).unwrap();
        let numbers: Vec<Number> = self.hosts.keys().copied().collect();
        for number in numbers {
            self.link(number).unwrap();
        }
    }
}

#[test]
fn a_host_that_was_let_in_again_just_before_a_restart_goes_on() {
    let mut world = fleet(2);
    world.drain(1, false).unwrap();
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(3_600);
    world.drain(1, true).unwrap();
    world.starts_again_after("host-drained");
    world.finish();
    world.holds();
    assert_eq!([world.runs(0), world.runs(1)], [Some(1); 2]);
}

#[test]
fn a_rollout_that_was_planned_just_before_a_restart_starts() {
    let mut world = fleet(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.starts_again_after("rollout-planned");
    // Nobody has to do anything for it.
    world.for_secs(3_600);
    world.holds();
    assert_eq!([world.runs(0), world.runs(1)], [Some(2); 2]);
}

#[test]
fn a_host_that_was_drained_just_before_a_restart_stays_as_it_is() {
    let mut world = fleet(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    let key = world.newest(&shop()).unwrap().plan().waves[1].hosts[0].id;
    let late = *world.hosts.iter().find(|(_, host)| host.key == key).unwrap().0;
    let staged = |world: &World| {
        matches!(
            world.hosts[&late].sites[&shop()].state(),
            groundswell_machine::State::Fetching { .. }
        )
    };
    while !staged(&world) {
        assert!(world.event().unwrap());
    }
    world.drain(late, false).unwrap();
    world.starts_again_after("host-drained");
    world.for_secs(3_600);
    assert_eq!(world.runs(late), Some(0));
    world.drain(late, true).unwrap();
    world.finish();
    world.holds();
    assert_eq!(world.runs(late), Some(1));
}

#[test]
fn what_a_new_host_got_as_proven_stays_until_a_person_takes_it_back() {
    let mut world = fleet(3);
    let (bad, version) = crate::draw::release(&shop(), 1);
    let site = |world: &mut World, act: &dyn Fn(&mut crate::site::Site, Timestamp)| {
        world.host(2, |host, now| act(host.sites.get_mut(&shop()).unwrap(), now)).unwrap();
    };
    site(&mut world, &|site, now| {
        site.meet(bad, Nature::DeadAtSwitch, (2, version.clone()));
        site.pause(Some("new memory"), now);
    });
    world.brings(Nature::Good);
    world.start_by_hand(&shop(), 1).unwrap();
    let new = world.new_host().unwrap();
    world.link(new).unwrap();
    // It fails on the one that was late: it goes to nobody any more.
    site(&mut world, &|site, now| site.pause(None, now));
    world.for_secs(600);
    let runs = |world: &World| [0, 1, 2, new].map(|number| world.runs(number));
    assert!(world.office.view().releases[&bad].poisoned.is_some());
    assert_eq!(runs(&world), [1, 1, 0, 1].map(Some));
    world.go_back(&shop()).unwrap();
    world.until_over();
    world.for_secs(60);
    world.holds();
    assert_eq!(runs(&world), [Some(0); 4]);
}

#[test]
fn a_host_that_lost_what_was_left_over_and_is_a_target_again_keeps_what_it_is_given() {
    let mut world = fleet(3);
    let policy = strict().replace("targets = \"*\"", "targets = \"role=web\"");
    drop(world.control().put_policy(&spelt("ann"), &shop(), &policy));
    world.settle().unwrap();
    let label = |world: &mut World, role: &str| {
        let labels = spelt(&format!("rack=r1,role={role}"));
        let name = crate::draw::host_name(1);
        world.control().label_host(&spelt("ann"), &name, labels).unwrap();
        world.settle().unwrap();
    };
    label(&mut world, "db");
    world.take_off(&shop(), groundswell_rollout::Off::LeftOver).unwrap();
    world.until_over();
    assert_eq!(world.runs(1), None);
    label(&mut world, "web");
    world.for_secs(600);
    assert_eq!(world.runs(1), Some(0));
    let entries = world.office.ledger.len();
    world.for_secs(600);
    world.holds();
    assert_eq!((world.runs(1), world.office.ledger.len()), (Some(0), entries));
    // No target once more: it goes on until a person takes it off again.
    label(&mut world, "db");
    world.for_secs(600);
    assert_eq!(world.runs(1), Some(0));
}

#[test]
fn a_service_that_was_taken_off_does_not_come_back_for_a_clear() {
    let mut world = fleet(3);
    world.brings(Nature::DeadAtSwitch);
    let bad = crate::draw::release(&shop(), 1).0;
    world.take_off(&shop(), groundswell_rollout::Off::Everyone).unwrap();
    world.until_over();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [None; 3]);
    world.control().clear(&spelt("ann"), &bad, "the port was taken").unwrap();
    world.settle().unwrap();
    world.for_secs(600);
    world.holds();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [None; 3]);
    world.start_by_hand(&shop(), 0).unwrap();
    world.until_over();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [Some(0); 3]);
}

#[test]
fn a_plan_that_was_ended_before_it_began_keeps_nobody_from_being_heard() {
    let mut world = fleet(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.for_secs(2);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    world.starts_again_after("rollout-planned");
    let keep = groundswell_control::Verb::Abort(groundswell_rollout::KeepOrRevert::Keep);
    assert!(world.tell(&shop(), keep).unwrap());
    // The rollout before goes on.
    world.for_secs(3_600);
    world.holds();
    assert_eq!([world.runs(0), world.runs(1)], [Some(1); 2]);
}

#[test]
fn a_host_that_is_drained_in_the_middle_of_a_switch_gets_no_second_permit() {
    let mut world = fleet(1);
    world.lot_of(0).fsync_millis = 10_000;
    world.bring(&shop(), |_| Nature::Good).unwrap();
    while world.counts_as(0) != Some(ProgressName::Probing) {
        assert!(world.event().unwrap());
    }
    // Its permit runs out; that it has not switched is long on its way.
    world.reported.insert(0, world.now.plus_secs(30));
    world.drain(0, false).unwrap();
    world.for_secs(3_600);
    assert_eq!(world.runs(0), Some(0));
    world.lot_of(0).fsync_millis = 1;
    world.drain(0, true).unwrap();
    world.finish();
    world.holds();
    assert_eq!(world.runs(0), Some(1));
}

#[test]
fn a_host_that_had_its_slot_when_it_was_drained_stays_as_it_is_after_a_restart() {
    let mut world = fleet(1);
    world.bring(&shop(), |_| Nature::Good).unwrap();
    while world.counts_as(0) != Some(ProgressName::Granted) {
        assert!(world.event().unwrap());
    }
    world.drain(0, false).unwrap();
    world.starts_again_after("host-drained");
    world.for_secs(3_600);
    assert_eq!((world.runs(0), world.counts_as(0)), (Some(0), Some(ProgressName::Held)));
    world.drain(0, true).unwrap();
    world.finish();
    world.holds();
    assert_eq!(world.runs(0), Some(1));
}

#[test]
fn who_comes_back_with_what_was_taken_off_everyone_leaves_it_and_hears_no_older_number() {
    let mut world = fleet(3);
    let policy = strict().replace("targets = \"*\"", "targets = \"role=web\"");
    drop(world.control().put_policy(&spelt("ann"), &shop(), &policy));
    for (number, role) in [(0, "web"), (1, "db"), (2, "web")] {
        world.label(number, spelt(&format!("rack=r1,role={role}"))).unwrap();
    }
    world.snapshot(1).unwrap();
    world.take_off(&shop(), groundswell_rollout::Off::LeftOver).unwrap();
    world.until_over();
    world.take_off(&shop(), groundswell_rollout::Off::Everyone).unwrap();
    world.until_over();
    assert_eq!([world.runs(0), world.runs(1), world.runs(2)], [None; 3]);
    world.snapshot(1).unwrap();
    world.for_secs(600);
    world.holds();
    assert_eq!(world.runs(1), None);
}
