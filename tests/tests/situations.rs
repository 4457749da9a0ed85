//! The table of situations that people meet: how each is made, what every surface says of it, and the step that is
//! read there, done. A surface that lies, keeps the cause back or names a step that does not help fails here.
//!
//! `SITUATION=words` runs those rows alone whose names hold the words.

#[path = "situations/courses.rs"]
mod courses;
#[path = "situations/desk.rs"]
mod desk;
#[path = "situations/environments.rs"]
mod environments;
#[path = "situations/hosts.rs"]
mod hosts;
#[path = "situations/table.rs"]
mod table;
#[path = "situations/units.rs"]
mod units;
#[path = "situations/world.rs"]
mod world;
#[path = "situations/years.rs"]
mod years;

use groundswell_tests::hosts::bed;
use groundswell_tests::private::inside;
use table::{Row, run};
use world::World;

/// All rows, by the world that they are run in; each world is one of the tests below.
const TABLE: [&[Row]; 6] =
    [desk::ROWS, courses::ROWS, hosts::ROWS, environments::ROWS, years::ROWS, units::ROWS];
/// What the table must hold at least.
const LEAST: usize = 100;

#[test]
fn the_table_is_as_long_as_it_says_and_names_nothing_twice() {
    let mut names: Vec<&str> =
        TABLE.iter().flat_map(|rows| rows.iter().map(|row| row.name)).collect();
    eprintln!("{} situations", names.len());
    assert!(names.len() >= LEAST, "{} situations", names.len());
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}

#[test]
fn what_a_desk_is_answered() {
    inside("what_a_desk_is_answered", |private| {
        let hosts = [("web-1", "role=web,canary=yes"), ("web-2", "role=web")];
        run(&mut World::of_processes(private.dir(), &hosts), desk::ROWS);
    });
}

#[test]
fn rollouts_that_wait_or_stop() {
    inside("rollouts_that_wait_or_stop", |private| {
        let hosts = [("web-1", "role=web,canary=yes"), ("web-2", "role=web")];
        run(&mut World::of_processes(private.dir(), &hosts), courses::ROWS);
    });
}

#[test]
fn hosts_that_lack_something() {
    inside("hosts_that_lack_something", |private| {
        let hosts = [("web-1", "role=web,canary=yes"), ("web-2", "role=web")];
        run(&mut World::of_processes(private.dir(), &hosts), hosts::ROWS);
    });
}

#[test]
fn from_one_environment_to_the_next() {
    inside("from_one_environment_to_the_next", |private| {
        run(&mut environments::world(private.dir()), environments::ROWS);
    });
}

#[test]
fn what_becomes_of_a_fleet_over_the_years() {
    inside("what_becomes_of_a_fleet_over_the_years", |private| {
        run(&mut years::world(private.dir()), years::ROWS);
    });
}

#[test]
fn units_and_machines_as_people_have_them() {
    bed("units_and_machines_as_people_have_them", |bed| {
        run(&mut units::world(bed), units::ROWS);
    });
}
