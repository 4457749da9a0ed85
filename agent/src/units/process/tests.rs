use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
    spec: RunSpec,
}

/// A service whose program is this shell script.
fn place(script: &str) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let service: ServiceName = "shop".parse().unwrap();
    let tree = layout.service(&service).join("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    let program = tree.join("bin/shop");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = RunSpec {
        service,
        version: "1.0".parse().unwrap(),
        units: Vec::new(),
        command: vec!["bin/shop".to_owned(), "argument".to_owned()],
        tree,
    };
    Place { _dir: dir, layout, spec }
}

impl Place {
    fn units(&self) -> ProcessUnits {
        ProcessUnits::new(self.layout.clone())
    }

    fn process(&self) -> ProcessId {
        let bytes = std::fs::read(self.layout.process(&self.spec.service)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn output(&self, units: &ProcessUnits, want: &str) {
        let seen = async {
            while !units.last_output(&self.spec).await.contains(want) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), seen).await.expect(want);
    }
}

#[tokio::test]
async fn it_runs_in_its_tree_with_its_names_and_stops_as_a_group() {
    let line = "echo \"$GROUNDSWELL_SERVICE $GROUNDSWELL_VERSION $1 $PWD\"";
    let child = "sh -c 'trap \"\" TERM; echo $$ > child; sleep 600' &";
    let place = place(&format!("{line}\n{child}\nwait"));
    let units = place.units();
    units.restart(&place.spec).await.unwrap();
    let want = format!("shop 1.0 argument {}", place.spec.tree.display());
    place.output(&units, &want).await;
    assert_eq!(
        units.alive(&place.spec).await.unwrap(),
        Alive { running: true, crashes: 0, runs: Vec::new(), hopeless: false, stopped: None }
    );
    let (process, file) = (place.process(), place.spec.tree.join("child"));
    let deaf = async {
        loop {
            let child = std::fs::read_to_string(&file).ok().and_then(|n| n.trim().parse().ok());
            match child.and_then(ProcessId::of) {
                Some(child) => break child,
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let child = timeout(Duration::from_secs(20), deaf).await.expect("the child");
    units.stop(&place.spec).await.unwrap();
    assert!(!process.runs());
    let gone = async {
        while child.runs() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("a child deaf to SIGTERM is killed, too");
    assert!(!place.layout.process(&place.spec.service).exists());
}

#[tokio::test]
async fn an_agent_that_starts_again_adopts_its_process_and_sees_its_end() {
    let place = place("exec sleep 600");
    let first = place.units();
    first.restart(&place.spec).await.unwrap();
    let process = place.process();
    // The first agent is gone: its tasks with it, its process not.
    let keeper = first.keeper(&place.spec.service).unwrap();
    keeper.task.lock().unwrap().take().unwrap().abort();
    drop(first);
    let second = place.units();
    second.ensure(&place.spec, Since::Boot).await.unwrap();
    assert_eq!(place.process(), process, "the same process");
    assert!(second.alive(&place.spec).await.unwrap().running);
    kill_process_group(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
    let seen = async {
        let keeper = second.keeper(&place.spec.service).unwrap();
        let mut status = keeper.status.clone();
        let again = |s: &Status| s.crashes == 1 && s.process.is_some_and(|p| p != process);
        status.wait_for(again).await.unwrap();
    };
    timeout(Duration::from_secs(20), seen).await.expect("started again after its end");
    second.stop_all().await;
    assert!(!process.runs());
}

#[tokio::test]
async fn a_process_whose_record_was_lost_is_ended_before_another_is_started() {
    let place = place("exec sleep 600");
    let first = place.units();
    first.restart(&place.spec).await.unwrap();
    let stray = place.process();
    let keeper = first.keeper(&place.spec.service).unwrap();
    keeper.task.lock().unwrap().take().unwrap().abort();
    drop(first);
    std::fs::remove_file(place.layout.process(&place.spec.service)).unwrap();
    let second = place.units();
    second.ensure(&place.spec, Since::Boot).await.unwrap();
    assert!(!stray.runs());
    assert!(place.process().runs());
    second.stop_all().await;
}

#[tokio::test]
async fn a_start_that_is_under_way_leaves_no_process_beside_that_of_a_restart() {
    let place = place("exec sleep 600");
    let first = place.units();
    first.restart(&place.spec).await.unwrap();
    let keeper = first.keeper(&place.spec.service).unwrap();
    keeper.task.lock().unwrap().take().unwrap().abort();
    std::fs::remove_file(place.layout.process(&place.spec.service)).unwrap();
    let second = place.units();
    let newer = RunSpec { version: "2.0".parse().unwrap(), ..place.spec.clone() };
    // Both find the stray process, and wait for its end.
    let (ensured, restarted) =
        tokio::join!(second.ensure(&place.spec, Since::Boot), second.restart(&newer));
    ensured.unwrap();
    restarted.unwrap();
    let running = proc_table::marked(&second.mark(&place.spec.service));
    assert_eq!(running, [place.process()], "one process, and the recorded one");
    let environment = std::fs::read(format!("/proc/{}/environ", running[0].pid)).unwrap();
    let version = b"GROUNDSWELL_VERSION=2.0";
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable == version));
    second.stop_all().await;
    assert!(proc_table::marked(&second.mark(&place.spec.service)).is_empty());
}

#[tokio::test]
async fn another_process_with_the_recorded_number_is_not_adopted() {
    let place = place("exec sleep 600");
    let pid = i32::try_from(std::process::id()).unwrap();
    let me = ProcessId::of(pid).unwrap();
    let other = ProcessId { started: me.started + 1, ..me };
    let json = serde_json::to_vec(&other).unwrap();
    durable::write(&place.layout.process(&place.spec.service), &json, Access::Owner).unwrap();
    let units = place.units();
    units.ensure(&place.spec, Since::Boot).await.unwrap();
    assert_ne!(place.process().pid, pid);
    units.stop_all().await;
    assert!(me.runs(), "this test was not killed");
}

#[tokio::test]
async fn crashes_are_counted_and_the_process_started_again() {
    let place = place("echo crash >&2; exit 3");
    let units = place.units();
    units.restart(&place.spec).await.unwrap();
    let keeper = units.keeper(&place.spec.service).unwrap();
    let mut status = keeper.status.clone();
    let twice = status.wait_for(|status| status.crashes >= 2);
    timeout(Duration::from_secs(20), twice).await.expect("crashed twice").unwrap();
    place.output(&units, "crash").await;
    units.stop(&place.spec).await.unwrap();
    assert_eq!(
        units.alive(&place.spec).await.unwrap(),
        Alive { running: false, crashes: 0, runs: Vec::new(), hopeless: false, stopped: None }
    );
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_an_error_that_names_it() {
    let mut place = place("");
    place.spec.command = vec!["bin/none".to_owned()];
    let units = place.units();
    let error = units.restart(&place.spec).await.unwrap_err();
    assert!(matches!(&error, UnitError::Spawn { program, .. } if program.ends_with("bin/none")));
    // Files alone need nothing to run.
    place.spec.command.clear();
    units.restart(&place.spec).await.unwrap();
    assert!(units.alive(&place.spec).await.unwrap().running);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed() {
    let place = place("trap '' TERM; echo deaf; while :; do sleep 1; done");
    let units = place.units();
    units.restart(&place.spec).await.unwrap();
    place.output(&units, "deaf").await;
    let process = place.process();
    let began = Instant::now();
    units.stop(&place.spec).await.unwrap();
    assert!(!process.runs());
    assert!(began.elapsed() >= TERM && began.elapsed() < TERM + KILL, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_service_writes_stays_within_its_bound_and_begins_anew_with_each_run() {
    let place = place("echo first; while :; do head -c 100000 /dev/zero; done");
    let units = place.units();
    units.restart(&place.spec).await.unwrap();
    let output = place.layout.output(&place.spec.service);
    let kept = output.with_extension("log.1");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let bounded = async {
        // It may write faster than the file is looked at, which is then looked at more often.
        while size(&kept) != OUTPUT_KEPT_BYTES || size(&output) > 2 * OUTPUT_MAX_BYTES {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), bounded).await.expect("a bound");
    units.stop(&place.spec).await.unwrap();
    let program = place.spec.tree.join("bin/shop");
    std::fs::write(program, "#!/bin/sh\necho second; exec sleep 60\n").unwrap();
    units.restart(&place.spec).await.unwrap();
    place.output(&units, "second").await;
    assert_eq!(units.last_output(&place.spec).await.trim(), "second", "of this run alone");
    units.stop(&place.spec).await.unwrap();
}
