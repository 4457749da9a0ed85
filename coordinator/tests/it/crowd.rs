//! Crowds at the doors: connections that say nothing, bodies that never come, one profile that takes all it can, a host
//! that comes and goes. Hosts and people with a certificate get in all the same, and the ledger hears nothing of it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use groundswell_common::wire::{ToAgent, ToCoordinator};
use groundswell_coordinator::driver::Desk;
use groundswell_net::{Framed, connect};
use groundswell_rollout::PhaseName;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::bed::{PATIENCE, Served, fleet};
use crate::fake::{Fake, hello};
use crate::routes::enrolled_agent;

/// More than a listener has places for strangers.
const CROWD: usize = 1_400;
/// From so many addresses of the loopback: one alone never gets all places.
const ADDRESSES: u8 = 7;
/// Longer than strangers are left in peace when others come.
const PATIENCE_OF_THE_DOOR: Duration = Duration::from_millis(1_100);
const STATUS: (&Method, &str) = (&Method::GET, "/v1/status");

/// Connections to `to` that say nothing.
async fn silent_crowd(to: &str) -> Vec<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let from = 2 + u8::try_from(number % usize::from(ADDRESSES)).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0))).unwrap();
        crowd.push(tokio::time::timeout(PATIENCE, socket.connect(to)).await.unwrap().unwrap());
    }
    crowd
}

/// Those that are still there.
fn open(crowd: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| match stream.try_read(&mut [0]) {
        Err(error) => error.kind() == ErrorKind::WouldBlock,
        Ok(_) => false,
    };
    crowd.iter().filter(is_open).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_keeps_nobody_with_a_certificate_out() {
    let served = Served::start().await;
    let agent = enrolled_agent(&served).await;
    let admin = served.admin_tls();
    let halt = json!({ "why": "in the crowd" });

    let at_the_api = silent_crowd(&served.at.api).await;
    let at_the_agents = silent_crowd(&served.at.agents).await;
    for crowd in [&at_the_api, &at_the_agents] {
        let open = open(crowd);
        assert!(open >= 900, "{open}: the crowd is not what the test needs");
    }
    tokio::time::sleep(PATIENCE_OF_THE_DOOR).await;

    served.json(&admin, STATUS, json!({})).await;
    let halt =
        served.ask(&admin, (&Method::POST, "/v1/services/web/halt"), halt.to_string().into());
    assert_eq!(halt.await.unwrap().code(), "unknown_service", "it was read and answered");
    let stream = connect(&served.at.agents, agent, PATIENCE).await.unwrap();
    let mut framed = Framed::new(stream, "the coordinator".to_owned());
    framed.send(&ToCoordinator::Hello(hello()), PATIENCE).await.unwrap();
    let answer = framed.recv::<ToAgent>(PATIENCE).await.unwrap();
    assert!(matches!(answer, Some(ToAgent::Welcome(_))), "{answer:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_whose_body_never_comes_keeps_nobody_out() {
    let served = Served::start().await;
    let nobody = served.tls(None);
    let mut stalled = Vec::new();
    for _ in 0..300 {
        let Ok(mut stream) = connect(&served.at.api, nobody.clone(), PATIENCE).await else {
            continue;
        };
        let head = b"POST /v1/enroll HTTP/1.1\r\nhost: coordinator\r\ncontent-length: 500\r\n\r\n{";
        if stream.write_all(head).await.is_ok() {
            stalled.push(stream);
        }
    }
    assert!(stalled.len() > 200, "{}: the crowd is not what the test needs", stalled.len());
    tokio::time::sleep(PATIENCE_OF_THE_DOOR).await;
    served.json(&served.admin_tls(), STATUS, json!({})).await;
    // A host enrols among them, from the same address.
    enrolled_agent(&served).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_profile_that_takes_all_it_can_is_told_so_and_leaves_places_to_others() {
    let (place, mut settings) = fleet();
    settings.api_connections_max = 8;
    let served = Served::on((place, settings)).await;
    let admin = served.admin_tls();
    let agent = enrolled_agent(&served).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&served.at.api, admin.clone(), PATIENCE).await.unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: coordinator\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    let answer = served.ask(&admin, STATUS, Vec::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.code(), "too_many_connections");
    // Another with a certificate is answered: it is told that the route is not for it.
    let other = served.ask(&agent, STATUS, Vec::new()).await.unwrap();
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    drop(held);
    let again = async || served.ask(&admin, STATUS, Vec::new()).await.unwrap().status;
    let end = tokio::time::Instant::now() + PATIENCE;
    while again().await != StatusCode::OK {
        assert!(tokio::time::Instant::now() < end, "in vain: a place of its own");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_comes_and_goes_all_the_time_does_not_fill_the_ledger() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    fake.put_policy().await;
    let _host = fake.arrive(id, 0).await;
    let (_, rollout) = fake.publish(1).await;
    fake.phase_is(&rollout, PhaseName::Running).await;
    let away = async || {
        let rollout = rollout.clone();
        let since = move |desk: &Desk| {
            let entry = desk.view().rollout(&rollout).and_then(|live| live.host(&id));
            (desk.view().seq, entry.is_some_and(|entry| entry.away.is_some()))
        };
        fake.handle.query(since).await.unwrap()
    };
    let before = away().await;
    for session in 0..100 {
        fake.handle.leave(id, session).await.unwrap();
        drop(fake.arrive(id, session + 1).await);
    }
    assert_eq!(away().await, before, "who is back at once was not away");
    fake.handle.leave(id, 100).await.unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    while !away().await.1 {
        assert!(tokio::time::Instant::now() < end, "in vain: it is away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fake.stop().await;
}
