//! Hosts that lack something before a switch, or have lost what they had: named on the host and at the desk.

use std::fs;
use std::path::Path;

use groundswell_tests::fleet::{Agent, succeed};
use groundswell_tests::kept::copy_tree;
use groundswell_tests::must::Must as _;

use crate::courses::live;
use crate::table::Surface::{
    AgentStatus, AgentWhy, Answer, Audit, Doctor, Ls, Plan, Show, Status, Why,
};
use crate::table::{Row, Says, Step, Well};
use crate::world::{POLICY, World};

fn apply(world: &mut World, policy: &str) {
    let file = world.policy_file(policy);
    world.type_in(&format!("swell service apply {file} --yes"));
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "its owner paused a service",
        make: |world| {
            world.type_in("groundswell-agent pause shop --reason 'replacing RAM'");
            world.publish();
        },
        says: &[
            Says(
                &[Why],
                "its owner paused it: replacing RAM",
                "'groundswell-agent resume shop' there ends a pause of it alone",
            ),
            Says(&[Status, Show, Ls], "a person has paused it: replacing RAM", ""),
            Says(
                &[Status],
                "a person has paused it: replacing RAM",
                "'groundswell-agent why' there says what ends that",
            ),
            Says(
                &[AgentWhy],
                "paused on this host: replacing RAM",
                "'groundswell-agent resume shop'",
            ),
            Says(
                &[Doctor],
                "shop is paused on this host: replacing RAM",
                "groundswell-agent resume shop",
            ),
        ],
        cure: &[Step::Typed("groundswell-agent resume shop")],
        well: Well::New,
    },
    Row {
        name: "its owner paused the host, and the plan says so beforehand",
        make: |world| {
            world.policy_with("auto = false", "");
            world.type_in("groundswell-agent pause --reason 'replacing a fan'");
            world.publish();
        },
        says: &[
            Says(
                &[Plan],
                "held: web-1, its owner paused it: replacing a fan",
                "'groundswell-agent resume' one of the host",
            ),
            Says(
                &[Why],
                "its owner paused it: replacing a fan",
                "'groundswell-agent resume' one of the host",
            ),
            Says(
                &[AgentWhy, Doctor],
                "paused on this host: replacing a fan",
                "groundswell-agent resume",
            ),
        ],
        cure: &[
            Step::Typed("groundswell-agent resume"),
            Step::Hand("resume", |world| world.type_in("swell rollout start shop {new}")),
        ],
        well: Well::New,
    },
    Row {
        name: "an operator drained a host",
        make: |world| {
            world.type_in("swell host drain web-1 --why 'a new disk'");
            world.publish();
        },
        says: &[
            Says(&[Why, Status, Ls], "an operator drained it: a new disk", "swell host undrain"),
            Says(
                &[Show],
                "an operator drained it: a new disk",
                "'swell host undrain web-1' lets it in again",
            ),
        ],
        cure: &[Step::Typed("swell host undrain web-1")],
        well: Well::New,
    },
    Row {
        name: "a file of what is live was changed",
        make: |world| {
            let file = live(world, "version");
            fs::write(&file, "by hand").must("change a live file");
            world.publish();
        },
        says: &[
            Says(
                &[Why, Status, Show, AgentWhy],
                "version of the live release was changed or removed",
                "restore it, or set allow_drift = true under [services.shop]",
            ),
            Says(
                &[Doctor],
                "version of the live release was changed",
                "put the file back as it was released",
            ),
            Says(&[Ls], "services", "fetching"),
        ],
        cure: &[Step::Hand("restore it", |world| {
            let file = live(world, "version");
            fs::write(&file, &world.old).must("put a live file back");
            world.agents[0].kill();
            world.agents[0].run();
        })],
        well: Well::New,
    },
    Row {
        name: "there is no room for a release",
        make: |world| {
            edit_settings(world, |text| {
                text.replace("keep_free_bytes = 0", "keep_free_bytes = 9000000000000")
            });
            world.wait_doctor("9000000000000");
            world.publish();
        },
        says: &[
            Says(&[Why, Status, Show, AgentWhy], "bytes are needed and", "make room"),
            Says(
                &[Doctor],
                "bytes are free, and staging must leave 9000000000000",
                "or lower keep_free_bytes",
            ),
            Says(&[Ls], "bytes are needed and", "fetching"),
        ],
        cure: &[Step::Hand("lower keep_free_bytes", |world| {
            edit_settings(world, |text| {
                text.replace("keep_free_bytes = 9000000000000", "keep_free_bytes = 0")
            });
        })],
        well: Well::New,
    },
    Row {
        name: "the settings of a host cannot be read any more",
        make: |world| {
            edit_settings(world, |text| text.replace("keep_free_bytes", "keep_fere_bytes"));
        },
        says: &[
            Says(
                &[Why, Status],
                "its agent.toml cannot be read, so it goes on with the settings before",
                "unknown field",
            ),
            Says(&[Ls], "its agent.toml cannot be read", "web-1"),
            Says(
                &[Doctor],
                "is not in force",
                "mend the file: it is read again within seconds, by itself",
            ),
        ],
        cure: &[Step::Hand("mend the file", |world| {
            edit_settings(world, |text| text.replace("keep_fere_bytes", "keep_free_bytes"));
        })],
        well: Well::Old,
    },
    Row {
        name: "the bytes of a release cannot be fetched",
        make: |world| {
            world.publish_unstarted();
            move_blobs(world, "blobs", "away");
            world.type_in("swell rollout start shop {new}");
        },
        says: &[
            Says(
                &[Why, Status, Show, AgentWhy],
                "the depot answered 404",
                "'swell publish' of the same files brings it back",
            ),
            Says(&[Doctor], "shop is held: ", "it is tried again by itself"),
        ],
        cure: &[Step::Typed("swell publish --service shop --version {new} {dir}/tree-{new}")],
        well: Well::New,
    },
    Row {
        name: "other bytes come than a release has",
        make: |world| {
            world.publish_unstarted();
            each_new_blob(world, |blob| {
                fs::copy(blob, blob.with_extension("good")).must("keep a blob");
                let mut bytes = fs::read(blob).must("read a blob");
                bytes.iter_mut().for_each(|byte| *byte ^= 1);
                fs::write(blob, bytes).must("damage a blob");
            });
            world.type_in("swell rollout start shop {new}");
        },
        says: &[Says(
            &[Why, Status, Show, AgentWhy],
            "other bytes came",
            "a cache or the depot is damaged",
        )],
        cure: &[Step::Hand("depot is damaged", |world| {
            each_new_blob(world, |blob| {
                fs::rename(blob.with_extension("good"), blob).must("mend a blob");
            });
        })],
        well: Well::New,
    },
    Row {
        name: "a release is for other machines",
        make: |world| {
            let tree = world.tree(&world.new, "platform = \"linux-riscv64\"\n");
            world.fleet.publish("shop", &world.new, &tree);
        },
        says: &[
            Says(
                &[Why, Status, Show, AgentWhy],
                "it is for linux-riscv64, which this host is not",
                "'swell rollout exclude' leaves it out",
            ),
            Says(
                &[Plan],
                "held: web-1, it is linux-x86_64 and the release is for linux-riscv64",
                "leave it out",
            ),
        ],
        cure: &[Step::Hand("'swell rollout exclude' leaves it out", |world| {
            world.type_in("swell rollout exclude {id} --host web-1");
            world.type_in("swell rollout exclude {id} --host web-2");
            world.new = format!("{}.1", world.new);
            world.publish();
        })],
        well: Well::New,
    },
    Row {
        name: "the labels of a host are not those of the service",
        make: |world| {
            world.type_in("swell host label web-1 role=wbe");
        },
        says: &[
            Says(
                &[Why],
                "runs here, and is no more its policy's: targets = \"role=web\" does not match its labels",
                "if that was a mistake, 'swell host label' gives them back",
            ),
            Says(
                &[Status],
                "! shop runs on web-1, which its policy does not target: ",
                "if that was a mistake, 'swell host label' gives them back; if not, swell service remove shop \
                 --left-over takes it off",
            ),
        ],
        cure: &[
            Step::Typed("swell service remove shop --left-over --yes --wait"),
            Step::Hand("does not target", |world| {
                world.type_in("swell host label web-1 role=web,canary=yes")
            }),
        ],
        well: Well::Old,
    },
    Row {
        name: "a slip in the targets of the policy",
        make: |world| apply(world, &POLICY.replace("role=web", "role=wbe")),
        says: &[Says(
            &[Why, Status],
            "targets = \"role=wbe\" does not match, and was \"role=web\" before",
            "if that was a mistake, write targets = \"role=web\" again and 'swell service apply' it",
        )],
        cure: &[Step::Hand("write targets = \"role=web\" again", |world| apply(world, POLICY))],
        well: Well::Old,
    },
    Row {
        name: "going back failed, and the host is stuck",
        make: |world| {
            world.make_ill(&world.new.clone(), "web-1");
            break_the_way_back(world);
            world.publish();
        },
        says: &[
            Says(
                &[Why],
                "Permission denied",
                "mend that, then 'groundswell-agent retry shop' there",
            ),
            Says(&[Status], "! shop is stuck on web-1", "swell host why web-1 says why"),
            Says(
                &[AgentWhy],
                "Permission denied",
                "mend that, then 'groundswell-agent retry shop' here",
            ),
            Says(
                &[Doctor],
                "Permission denied",
                "mend that, then 'groundswell-agent retry shop' here",
            ),
            Says(&[Ls], "stuck", "web-1"),
        ],
        cure: &[
            Step::Hand("mend that", mend_the_way_back),
            Step::Typed("groundswell-agent retry shop"),
        ],
        well: Well::Old,
    },
    Row {
        name: "the journal of a service is damaged",
        make: |world| {
            world.agents[0].kill();
            fs::write(world.agents[0].state().join("services/shop/journal.json"), "{")
                .must("damage a journal");
            world.agents[0].run();
        },
        says: &[
            Says(
                &[Why],
                "shop: it is stuck with",
                "'groundswell-agent doctor' there names the cause and the step",
            ),
            Says(&[Status], "! shop is stuck on web-1", "swell host why web-1 says why"),
            Says(&[AgentWhy], "stuck", "'groundswell-agent unstick'"),
            Says(&[Doctor], "shop is stuck", "'groundswell-agent unstick shop' and start it"),
        ],
        cure: &[
            Step::Hand("stop the agent", |world| world.agents[0].kill()),
            Step::Typed("groundswell-agent unstick shop"),
            Step::Hand("start it", |world| world.agents[0].run()),
        ],
        well: Well::Old,
    },
    Row {
        name: "a state directory was put back from a copy",
        make: |world| {
            let state = world.agents[0].state();
            let copy = state.with_extension("copy");
            world.agents[0].kill();
            copy_tree(&state, &copy);
            world.agents[0].run();
            world.publish();
            world.wait_completed(&world.new.clone());
            world.agents[0].kill();
            fs::remove_dir_all(&state).must("lose a state directory");
            fs::rename(&copy, &state).must("put a copy back");
            world.agents[0].run();
        },
        says: &[Says(&[Audit], "host fact gone running=", "rollout={id}")],
        cure: &[],
        well: Well::By(|world| {
            let new = world.new.clone();
            world.wait_runs(&new, std::time::Duration::from_secs(60));
        }),
    },
    Row {
        name: "a host was removed at the desk",
        make: |world| world.type_in("swell host remove web-1 --yes"),
        says: &[
            Says(
                &[Doctor],
                "not connected to the coordinator since",
                "'groundswell-agent enroll --again TOKEN'",
            ),
            Says(&[AgentWhy], "not connected to the coordinator since", "enrol"),
        ],
        cure: &[Step::Hand("swell host enroll-token", |world| {
            world.enrol_again();
        })],
        well: Well::Old,
    },
    Row {
        name: "a host is enrolled a second time",
        make: |world| {
            let token = world.fleet.token("role=web");
            world.ask(&format!("groundswell-agent enroll {token}"));
        },
        says: &[Says(
            &[Answer],
            "enrol: this host is",
            "'groundswell-agent enroll --again TOKEN' enrols it anew and keeps its services",
        )],
        cure: &[Step::Hand("groundswell-agent enroll --again TOKEN", |world| {
            world.type_in("swell host remove web-1 --yes");
            world.enrol_again();
        })],
        well: Well::Old,
    },
    Row {
        name: "a token that was cut when it was copied",
        make: |world| {
            let token = world.fleet.token("role=web");
            world.ask(&format!("groundswell-agent enroll --again {}", &token[..token.len() - 9]));
        },
        says: &[Says(&[Answer], "it is damaged", "paste the whole line again")],
        cure: &[Step::Hand("paste the whole line again", |world| {
            world.type_in("swell host remove web-1 --yes");
            world.enrol_again();
        })],
        well: Well::Old,
    },
    Row {
        name: "a token that was used",
        make: |world| {
            let token = world.fleet.token("role=web");
            world.type_in("swell host remove web-1 --yes");
            world.type_in(&format!("groundswell-agent enroll --again {token}"));
            world.restarted(0);
            world.type_in("swell host label web-1 role=web,canary=yes");
            world.type_in("swell host remove web-2 --yes");
            world.ask_of(1, &format!("groundswell-agent enroll --again {token}"));
        },
        says: &[Says(
            &[Answer],
            "the enrolment token is not known, used by another host, or expired",
            "ask for a new token",
        )],
        cure: &[Step::Hand("ask for a new token", |world| {
            let token = world.fleet.token("role=web");
            world.ask_of(1, &format!("groundswell-agent enroll --again {token}"));
            world.restarted(1);
        })],
        well: Well::Old,
    },
    Row {
        name: "a name that another host has",
        make: |world| {
            let token = world.fleet.token("role=web");
            world.ask(&format!("groundswell-agent enroll --again --name web-2 {token}"));
        },
        says: &[Says(
            &[Answer],
            "host name web-2 is taken by another key",
            "choose another name, or remove the old host first",
        )],
        cure: &[Step::Hand("remove the old host first", |world| {
            world.type_in("swell host remove web-1 --yes");
            let token = world.fleet.token("role=web,canary=yes");
            world.type_in(&format!("groundswell-agent enroll --again --name web-1 {token}"));
            world.restarted(0);
        })],
        well: Well::Old,
    },
    Row {
        name: "no directive ever came to a host",
        make: |world| {
            world
                .fleet
                .apply(&POLICY.replace("\"shop\"", "\"cart\"").replace("role=web", "role=db"));
            world.ask("swell plan cart");
        },
        says: &[Says(&[Answer], "service cart has no release", "publish a release first")],
        cure: &[Step::Hand("publish a release first", |world| {
            world.type_in("swell host label web-2 role=db");
            let tree = world.tree(&world.new, "");
            world.fleet.publish("cart", &world.new, &tree);
            world.fleet.wait_end("cart", &world.new);
            world.type_in("swell service remove cart --yes --wait");
            world.type_in("swell host label web-2 role=web");
        })],
        well: Well::Old,
    },
    Row {
        name: "a host says what it has, and nothing is wrong",
        make: |world| {
            world.publish();
            world.wait_completed(&world.new.clone());
        },
        says: &[
            Says(&[AgentWhy], "it has the release that is wished for", "shop"),
            Says(&[AgentStatus], "{new}", "committed"),
        ],
        cure: &[],
        well: Well::Lasting(|world| {
            let said = world.read(Doctor);
            assert!(!said.contains("BAD"), "{said}");
            let said = world.read(Status);
            assert!(!said.contains('!'), "{said}");
        }),
    },
    Row {
        name: "a state directory that is used twice",
        make: |world| {
            let copy = world.dir.join("agents/web-1/copy");
            let _ = fs::remove_dir_all(&copy);
            world.agents[0].kill();
            copy_tree(&world.agents[0].state(), &copy);
            world.agents[0].run();
            world.twin(&copy);
        },
        says: &[
            Says(&[Ls], "two machines use the key of this host", "web-1"),
            Says(
                &[Why, Status],
                "two machines use the key of this host",
                "'groundswell-agent enroll --again --name NAME TOKEN'",
            ),
        ],
        cure: &[Step::Hand("enroll --again --name NAME TOKEN", World::enrol_twin)],
        well: Well::Lasting(|world| {
            world.wait(
                "the copy under a name of its own",
                std::time::Duration::from_secs(60),
                || world.read(Ls).contains("web-7").then_some(()),
            );
            world.end_twin();
        }),
    },
];

fn edit_settings(world: &World, change: impl FnOnce(String) -> String) {
    let path = world.agents[0].config();
    let text = fs::read_to_string(path).must("read the agent's settings");
    let changed = change(text.clone());
    assert_ne!(changed, text, "the settings were changed");
    fs::write(path, changed).must("write the agent's settings");
}

fn depot(world: &World) -> std::path::PathBuf {
    world.fleet.state().join("depot/sha256")
}

/// Takes the blobs of the newest release out of the depot, or puts them back.
fn move_blobs(world: &World, from: &str, to: &str) {
    let away = world.dir.join("away");
    fs::create_dir_all(&away).must("make a place for blobs");
    match (from, to) {
        ("blobs", _) => each_new_blob(world, |blob| {
            let name = blob.file_name().must("name a blob");
            fs::rename(blob, away.join(name)).must("take a blob away");
        }),
        (_, _) => {
            for blob in fs::read_dir(&away).must("look at blobs").flatten() {
                let name = blob.file_name().to_string_lossy().into_owned();
                let folder = depot(world).join(&name[..2]);
                fs::rename(blob.path(), folder.join(name)).must("put a blob back");
            }
        }
    }
}

/// The bundle of the version that is not out yet: the largest of the newest files.
fn each_new_blob(world: &World, act: impl Fn(&Path)) {
    let folders = fs::read_dir(depot(world)).must("look at the depot").flatten();
    let files =
        folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let mut found: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_none())
        .filter(|path| !fs::read(path).is_ok_and(|bytes| bytes.first() == Some(&b'{')))
        .collect();
    found.sort_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
    act(found.last().must("find a bundle in the depot"));
}

/// The release that runs cannot be started again: its program is no program any more.
fn break_the_way_back(world: &World) {
    let run = live(world, "bin/run");
    fs::write(&run, "").must("break a program");
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&run, plain).must("break a program");
    edit_settings(world, |text| format!("{text}\n[services.shop]\nallow_drift = true\n"));
}

/// The program as it was released, as the other host has it.
fn mend_the_way_back(world: &mut World) {
    world.heal();
    let run = |host: usize| world.agents[host].state().join("services/shop/current/tree/bin/run");
    fs::copy(run(1), run(0)).must("mend a program");
}

impl World {
    /// Enrols the first host anew in its place.
    fn enrol_again(&mut self) {
        let token = self.fleet.token("role=web,canary=yes");
        self.ask(&format!("groundswell-agent enroll --again {token}"));
        assert!(self.answer.contains("next: restart the agent"), "{}", self.answer);
        // Nobody is sent to enrol it once more meanwhile.
        let doctor = self.read(Doctor);
        assert!(!doctor.contains("is not enrolled"), "{doctor}");
        self.restarted(0);
    }

    /// What an enrolment in place asks for: "restart the agent".
    fn restarted(&mut self, host: usize) {
        let agent = &mut self.agents[host];
        agent.kill();
        agent.run();
    }

    /// A second machine with this state directory.
    fn twin(&mut self, state: &Path) {
        self.copy = Some(Agent::over(&self.agents[0], "web-7", state));
    }

    fn enrol_twin(&mut self) {
        let token = self.fleet.token("role=other");
        let copy = self.copy.as_mut().must("find the copy");
        succeed(copy.command(&["enroll", "--again", "--name", "web-7"]).arg(token));
        copy.kill();
        copy.run();
    }

    fn end_twin(&mut self) {
        self.copy = None;
        self.type_in("swell host remove web-7 --yes");
    }

    fn wait_doctor(&self, words: &str) {
        self.wait(words, std::time::Duration::from_secs(30), || {
            self.read(Doctor).contains(words).then_some(())
        });
    }
}
