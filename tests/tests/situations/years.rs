//! What becomes of a fleet over the years: roots that end, books that are put back, profiles that are lost, disks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use groundswell_common::trust::{
    Document as _, Envelope, RawRoot, Role, RoleEntry, Root, SecretKey,
};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Fleet, describe, succeed};
use groundswell_tests::kept::{files, put_back};
use groundswell_tests::must::Must as _;

use crate::table::Surface::{AgentWhy, Answer, Doctor, Log, Ls, Show, Status, Why};
use crate::table::{Row, Says, Step, Well};
use crate::world::{SETTINGS, World};

/// A coordinator on a disk of its own, and a host on another.
pub(crate) fn world(dir: &Path) -> World {
    let state = dir.join("coordinator");
    disk(&state, "size=300m");
    let mut fleet = Fleet::init(dir, &state.join("state"), "127.0.0.1");
    let folder = fleet.state().join("coordinator.d");
    fs::create_dir_all(&folder).must("make the folder for settings");
    fs::write(folder.join("quick.toml"), SETTINGS).must("write settings");
    fleet.serve();
    disk(&dir.join("agents/web-1"), "size=200m");
    let agent = fleet.agent("web-1", "role=web,canary=yes");
    World::new(fleet, dir, vec![agent], Vec::new())
}

fn disk(at: &Path, options: &str) {
    fs::create_dir_all(at).must("make a place for a disk");
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at));
}

fn remount(world: &World, options: &str) {
    let at = world.dir.join("agents/web-1");
    succeed(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at));
}

fn mount_again(world: &World, how: &str) {
    let again = format!("remount,bind,{how}");
    succeed(Command::new("mount").args(["-o", &again]).arg(world.agents[0].state()));
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "the root ends soon",
        make: |world| next_root(world, |root| root.expires = now() + 12 * 86_400 + 43_200),
        says: &[
            Says(&[Status], "ends in 12 days", "groundswell-coordinator root renew"),
            Says(
                &[Doctor],
                "ends in 12 days",
                "'groundswell-coordinator root renew' with the root key",
            ),
        ],
        cure: &[Step::Hand("groundswell-coordinator root renew", renew)],
        well: Well::Old,
    },
    Row {
        name: "the root has ended",
        make: |world| {
            next_root(world, |root| root.expires = now() + 6);
            std::thread::sleep(Duration::from_secs(7));
            world.publish();
        },
        says: &[
            Says(
                &[Why, Show, AgentWhy],
                "verify the root: it ended at",
                "'groundswell-coordinator root renew' makes the next one",
            ),
            Says(&[Status], "root", "groundswell-coordinator root renew"),
            Says(&[Ls], "verify the root: it ended at", "web-1"),
            Says(
                &[Doctor],
                "nothing switches, what runs goes on",
                "'groundswell-coordinator root renew'",
            ),
        ],
        cure: &[Step::Hand("groundswell-coordinator root renew", renew)],
        well: Well::New,
    },
    Row {
        name: "the root asks for an approver",
        make: |world| {
            let profile = fs::read(world.fleet.profile()).must("read the profile");
            let profile: groundswell_common::api::Profile =
                serde_json::from_slice(&profile).must("read the profile");
            let key = SecretKey::from_pem(&profile.key_pem).must("read the profile's key").public();
            next_root(world, |root| {
                root.roles.push(RoleEntry {
                    role: Role::Approver,
                    service: None,
                    environment: None,
                    threshold: 1,
                    keys: vec![key],
                });
            });
            world.publish();
        },
        says: &[Says(
            &[Why, Show, AgentWhy, Status],
            "0 of 1 approvals for it in this environment",
            "'swell approve' gives one, at a wave that has gate = \"approval\" in the policy",
        )],
        cure: &[
            Step::Hand("gate = \"approval\" in the policy", |world| {
                world.policy_with("", "[[wave]]\nrest = true\ngate = \"approval\"\n");
                world.type_in("swell rollout start shop {new}");
            }),
            Step::Typed("swell approve {id} --yes"),
        ],
        well: Well::By(|world| {
            let new = world.new.clone();
            world.wait_runs(&new, Duration::from_secs(60));
            next_root(world, |root| root.roles.retain(|entry| entry.role != Role::Approver));
        }),
    },
    Row {
        name: "the ledger was put back from a backup",
        make: |world| {
            world.fleet.kill_coordinator();
            let ledger = world.fleet.state().join("ledger");
            let backup = files(&ledger);
            world.fleet.serve();
            world.wait_away(0);
            world.advance();
            world.advance();
            world.fleet.kill_coordinator();
            put_back(&ledger, &backup);
            fs::remove_dir_all(world.fleet.state().join("view")).must("remove the view");
            world.fleet.serve();
        },
        says: &[
            Says(
                &[Status],
                "1 host (web-1) accepted directives up to",
                "'swell audit lift --why TEXT'",
            ),
            Says(
                &[Doctor],
                "was the coordinator's ledger put back from a backup?",
                "'swell audit lift --why TEXT'",
            ),
            Says(
                &[Why],
                "the host refuses what it is told, since it accepted something newer",
                "'swell audit lift --why TEXT'",
            ),
        ],
        cure: &[Step::Typed("swell audit lift --why 'the disk burnt' --yes")],
        well: Well::By(World::advance),
    },
    Row {
        name: "the ledger is damaged",
        make: |world| {
            world.fleet.kill_coordinator();
            let ledger = world.fleet.state().join("ledger");
            world.kept = files(&ledger);
            let (path, mut bytes) = world
                .kept
                .iter()
                .next()
                .map(|(path, bytes)| (path.clone(), bytes.clone()))
                .must("find a segment");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::write(path, bytes).must("damage the ledger");
            assert!(!world.fleet.try_serve(), "a coordinator that runs on a damaged ledger");
        },
        says: &[Says(&[Log], "open the ledger", "restore")],
        cure: &[Step::Hand("restore", |world| {
            let ledger = world.fleet.state().join("ledger");
            let kept = std::mem::take(&mut world.kept);
            put_back(&ledger, &kept);
            world.fleet.serve();
        })],
        well: Well::Old,
    },
    Row {
        name: "keys that others can read",
        make: |world| {
            world.fleet.kill_coordinator();
            mode(world, 0o644);
            assert!(!world.fleet.try_serve(), "a coordinator with open keys");
        },
        says: &[Says(&[Log], "director.pem: mode 644 lets others read it", "run chmod 600 on it")],
        cure: &[
            Step::Told("chmod 600", "chmod 600 {dir}/coordinator/state/keys/director.pem"),
            Step::Hand("chmod 600", |world| world.fleet.serve()),
        ],
        well: Well::Old,
    },
    Row {
        name: "a second coordinator on the same directory",
        make: |world| {
            let mut second = Command::new(bin("groundswell-coordinator"));
            second.arg("serve").arg("--state").arg(world.fleet.state());
            world.answer = describe(&second.output().must("start a second coordinator"));
        },
        says: &[Says(&[Answer], "another coordinator has it open", "stop that one first")],
        cure: &[Step::Hand("stop that one first", |world| {
            world.fleet.kill_coordinator();
            world.fleet.serve();
        })],
        well: Well::Old,
    },
    Row {
        name: "the coordinator's disk is full",
        make: |world| {
            fill(&world.dir.join("coordinator/full"), 40 << 20);
            world.tree(&world.new, "");
            world.ask("swell publish --service shop --version {new} {dir}/tree-{new}");
        },
        says: &[Says(&[Answer], "the coordinator's disk is full: ", "are wanted")],
        cure: &[Step::Hand("disk is full", |world| {
            fs::remove_file(world.dir.join("coordinator/full")).must("make room");
            world.type_in("swell publish --service shop --version {new} {dir}/tree-{new}");
        })],
        well: Well::New,
    },
    Row {
        name: "the disk of a host is full",
        make: |world| {
            // What the agent itself writes still fits, its log among it.
            fill(&world.dir.join("agents/web-1/full"), 256 << 10);
            let tree = world.tree(&world.new, "");
            fs::write(tree.join("large"), vec![b'x'; 1 << 20]).must("write a large file");
            world.fleet.publish("shop", &world.new, &tree);
        },
        says: &[Says(&[Why, Show, Status, AgentWhy], " bytes ", "make room")],
        cure: &[Step::Hand("make room", |world| {
            fs::remove_file(world.dir.join("agents/web-1/full")).must("make room");
        })],
        well: Well::New,
    },
    Row {
        name: "not one page is free on the disk of a host, its log's among it",
        make: |world| {
            fill(&world.dir.join("agents/web-1/full"), 0);
            world.publish();
        },
        says: &[
            Says(&[Why, Show, Status], "No space left", "make room"),
            Says(&[AgentWhy, Doctor], "No space left", "make room"),
        ],
        cure: &[Step::Hand("make room", |world| {
            fs::remove_file(world.dir.join("agents/web-1/full")).must("make room");
        })],
        well: Well::New,
    },
    Row {
        name: "nothing can be written where the logs go",
        make: |world| {
            world.agents[0].kill();
            world.fleet.kill_coordinator();
            for log in ["coordinator.log", "agents/web-1/log"].map(|log| world.dir.join(log)) {
                fs::rename(&log, log.with_extension("before")).must("put a log aside");
                std::os::unix::fs::symlink("/dev/full", log).must("lead a log to a full disk");
            }
            world.fleet.serve();
            world.agents[0].run();
            world.publish();
        },
        says: &[Says(&[Show], "completed", "1 of 1 committed")],
        cure: &[],
        well: Well::By(|world| {
            for log in ["coordinator.log", "agents/web-1/log"].map(|log| world.dir.join(log)) {
                fs::rename(log.with_extension("before"), log).must("put a log back");
            }
            world.agents[0].kill();
            world.agents[0].run();
            world.fleet.kill_and_serve();
        }),
    },
    Row {
        name: "the disk of a host has no inodes",
        make: |world| {
            remount(world, &format!("nr_inodes={}", inodes(&world.dir.join("agents/web-1")) + 3));
            world.publish();
        },
        says: &[Says(
            &[Why, Show, Status, AgentWhy],
            "inodes are needed at most and",
            "remove files",
        )],
        cure: &[Step::Hand("remove files", |world| remount(world, "nr_inodes=100000"))],
        well: Well::New,
    },
    Row {
        name: "the disk of a host is mounted read-only",
        make: |world| {
            // A mount of its own, since what runs there has files open.
            let state = world.agents[0].state();
            succeed(Command::new("mount").arg("--bind").arg(&state).arg(&state));
            mount_again(world, "ro");
            world.publish();
        },
        says: &[
            Says(
                &[Why, Show, Status],
                "the agent cannot keep its state",
                "mount it writable again",
            ),
            Says(
                &[AgentWhy],
                "is mounted read-only",
                "'groundswell-agent doctor' says what ends that",
            ),
            Says(&[Doctor], "is mounted read-only: what runs goes on", "'mount -o remount,rw' it"),
        ],
        cure: &[Step::Hand("mount -o remount,rw", |world| mount_again(world, "rw"))],
        well: Well::New,
    },
    Row {
        name: "a viewer presses the red button",
        make: |world| {
            let profile = viewer(world);
            world.ask(&format!("swell --profile {profile} halt shop"));
        },
        says: &[Says(
            &[Answer],
            "exit status: 5",
            "ask an admin for a profile with the role that this needs",
        )],
        cure: &[Step::Hand("ask an admin for a profile with the role", |world| {
            let profile = world.dir.join("vic.profile").display().to_string();
            let _ = fs::remove_file(&profile);
            world.type_in(&format!("swell operator add vic --role operator --output {profile}"));
            world.ask(&format!("swell --profile {profile} resume shop"));
            assert!(world.answer.contains(" is over, "), "{}", world.answer);
        })],
        well: Well::Old,
    },
    Row {
        name: "a profile that was replaced",
        make: |world| {
            let profile = viewer(world);
            let old = world.dir.join("old.profile");
            fs::copy(&profile, &old).must("keep a profile");
            viewer(world);
            world.ask("swell --profile {dir}/old.profile status");
        },
        says: &[Says(&[Answer], "the certificate was replaced by a newer one", "exit status: 5")],
        cure: &[Step::Told("replaced by a newer one", "swell --profile {dir}/vic.profile status")],
        well: Well::Old,
    },
    Row {
        name: "a profile that was cut when it was copied",
        make: |world| {
            let text = fs::read_to_string(world.fleet.profile()).must("read the profile");
            fs::write(world.dir.join("cut.profile"), &text[..99]).must("cut a profile");
            world.ask("swell --profile {dir}/cut.profile status");
        },
        says: &[Says(&[Answer], "not the JSON of a profile", "copy the file again")],
        cure: &[
            Step::Told("copy the file again", "cp {dir}/admin.profile {dir}/cut.profile"),
            Step::Told("copy the file again", "swell --profile {dir}/cut.profile status"),
        ],
        well: Well::Old,
    },
    Row {
        name: "no admin has a profile any more",
        make: |world| world.ask("swell --profile {dir}/lost.profile status"),
        says: &[Says(
            &[Answer],
            "read the profile",
            "give --profile FILE (the coordinator's `init` and `operator add` write one)",
        )],
        cure: &[Step::Hand("operator add", |world| {
            world.fleet.kill_coordinator();
            let mut reset = Command::new(bin("groundswell-coordinator"));
            reset.args(["operator", "reset", "ann", "--output"]).arg(world.dir.join("new.profile"));
            succeed(reset.arg("--state").arg(world.fleet.state()));
            world.fleet.serve();
            fs::rename(world.dir.join("new.profile"), world.fleet.profile())
                .must("take the new profile");
        })],
        well: Well::Old,
    },
];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).must("read the clock").as_secs()
}

/// Signs another root with the fleet's root key, and starts the coordinator with it.
fn next_root(world: &mut World, change: impl FnOnce(&mut RawRoot)) {
    let roots = world.fleet.state().join("root");
    let version = fs::read_dir(&roots).must("look at the roots").count() as u64;
    let present = fs::read(roots.join(format!("{version}.json"))).must("read the root");
    let envelope = Envelope::from_json(&present, Root::MAX_BYTES).must("read the root");
    let mut raw: RawRoot = serde_json::from_slice(&envelope.payload).must("read the root");
    raw.version = version + 1;
    change(&mut raw);
    let key =
        fs::read_to_string(world.fleet.state().join("keys/root.pem")).must("read the root key");
    let key = SecretKey::from_pem(&key).must("read the root key");
    let next =
        Envelope::new::<Root>(serde_json::to_vec(&raw).must("write the root")).signed_by(&key);
    fs::write(roots.join(format!("{}.json", version + 1)), next.to_json()).must("write the root");
    world.fleet.kill_coordinator();
    world.fleet.serve();
    world.wait_away(0);
}

/// As the surfaces say: with the root key, then a restart.
fn renew(world: &mut World) {
    let mut renew = Command::new(bin("groundswell-coordinator"));
    renew.args(["root", "renew", "--days", "365", "--state"]).arg(world.fleet.state());
    succeed(renew.arg("--key").arg(world.fleet.state().join("keys/root.pem")));
    world.fleet.kill_coordinator();
    world.fleet.serve();
    world.wait_away(0);
}

fn mode(world: &World, mode: u32) {
    let key = world.fleet.state().join("keys/director.pem");
    fs::set_permissions(key, fs::Permissions::from_mode(mode)).must("change a mode");
}

fn viewer(world: &World) -> String {
    let profile = world.dir.join("vic.profile");
    let _ = fs::remove_file(&profile);
    let profile = profile.display().to_string();
    world.fleet.swell_ok(&["operator", "add", "vic", "--role", "viewer", "--output", &profile]);
    profile
}

/// Leaves so many bytes free.
fn fill(file: &Path, leave_bytes: u64) {
    let folder = file.parent().must("find a folder");
    let found = rustix::fs::statvfs(folder).must("look at a disk");
    let bytes = (found.f_bavail * found.f_frsize).saturating_sub(leave_bytes);
    succeed(Command::new("fallocate").args(["--length", &bytes.to_string()]).arg(file));
}

/// Inodes in use.
fn inodes(at: &Path) -> u64 {
    let found = rustix::fs::statvfs(at).must("look at a disk");
    found.f_files - found.f_ffree
}
