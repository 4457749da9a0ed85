//! Webhooks over real connections, plain and TLS: what is asked, and what each answer does.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Json;
use axum::http::StatusCode;
use axum::routing::post;
use groundswell_common::RolloutId;
use groundswell_common::report::{HostState, Verdict};
use groundswell_coordinator::ca::Authority;
use groundswell_coordinator::webhooks::{Caller, run};
use groundswell_net::tls::{ClientAuth, server_config};
use groundswell_rollout::PhaseName;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::bed::{fleet, key, now};
use crate::fake::{Fake, Fakehost, ada};

/// What a webhook answers next, and what it was asked.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    answers: Vec<(StatusCode, Value)>,
    asked: Vec<Value>,
}

impl Script {
    fn of(answers: &[(StatusCode, Value)]) -> Self {
        let mut answers = answers.to_vec();
        answers.reverse();
        Self(Arc::new(Mutex::new(Lines { answers, asked: Vec::new() })))
    }

    fn answer(&self, asked: Value) -> (StatusCode, Json<Value>) {
        let mut script = self.0.lock().unwrap();
        script.asked.push(asked);
        let nothing_more = (StatusCode::SERVICE_UNAVAILABLE, json!({}));
        let (status, body) = script.answers.pop().unwrap_or(nothing_more);
        (status, Json(body))
    }

    fn asked(&self) -> Vec<Value> {
        self.0.lock().unwrap().asked.clone()
    }

    fn router(&self) -> Router {
        let script = self.clone();
        let answer = move |Json(asked): Json<Value>| {
            let answer = script.answer(asked);
            async move { answer }
        };
        Router::new().route("/may-i", post(answer))
    }
}

/// Serves the script on loopback; the address.
async fn serve(script: &Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = script.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/may-i")
}

/// A fleet of one host whose only wave stands behind the webhook at `url`, and who asks it.
async fn gated(state: &Path, url: &str) -> (Fake, Fakehost, watch::Sender<bool>) {
    let fake = Fake::start(state);
    let id = fake.enrol("h1", 50).await;
    let host = fake.arrive(id, 1).await;
    fake.policy(&format!(
        "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
         webhook = \"{url}\"\n[[wave]]\nname = \"all\"\nrest = true\ngate = \"webhook\"\n"
    ))
    .await;
    let (stop, stopped) = watch::channel(false);
    let caller = Caller { ca: state.join("webhooks.pem"), again: Duration::from_secs(10) };
    tokio::spawn(run(fake.handle.clone(), caller, stopped));
    (fake, host, stop)
}

fn verdict(verdict: Verdict, why: &str) -> (StatusCode, Value) {
    (StatusCode::OK, json!({ "verdict": verdict, "why": why }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_opens_when_its_webhook_says_pass() {
    let (place, _) = fleet();
    let script = Script::of(&[verdict(Verdict::Pass, "")]);
    let url = serve(&script).await;
    let (fake, mut host, stop) = gated(&place.path().join("state"), &url).await;
    let (release, rollout) = fake.publish(1).await;
    let generation = host.wished(groundswell_common::directive::Action::Stage { release }).await;
    host.report((HostState::Staged, None), (release, generation)).await;
    fake.phase_is(&rollout, PhaseName::Running).await;
    let asked = script.asked();
    assert_eq!(asked.len(), 1);
    let question = &asked[0];
    assert_eq!(question["service"], "web");
    assert_eq!(question["version"], "1.0");
    assert_eq!(question["rollout"], rollout.as_str());
    assert_eq!((&question["wave"], &question["hosts"]), (&json!(0), &json!(1)));
    assert_eq!(question["wave_name"], "all");
    assert_eq!(question.get("url"), None, "it may hold a secret");
    stop.send_replace(true);
    fake.stop().await;
}

/// Serves the script over TLS; the address, and the authority behind its certificate.
async fn serve_tls(script: &Script) -> (String, String) {
    let fleet = "webhooks".parse().unwrap();
    let authority = Authority::load(&fleet, &key(70).to_pem().unwrap()).unwrap();
    let ca = authority.self_signed(now()).unwrap();
    let (chain, secret) = authority.server(&["127.0.0.1".to_owned()], now()).unwrap();
    let ders = [ca.der.clone()];
    let tls = server_config(&ders, &chain, &secret, ClientAuth::Optional).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TowerToHyperService::new(script.router());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, service) = (tls.clone(), service.clone());
            tokio::spawn(async move {
                let stream = TlsAcceptor::from(tls).accept(stream).await?;
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                served.await.map_err(std::io::Error::other)
            });
        }
    });
    (format!("https://{address}/may-i"), ca.pem)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_over_tls_is_believed_only_with_a_certificate_of_a_known_authority() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let script = Script::of(&[verdict(Verdict::Pass, "")]);
    let (url, ca) = serve_tls(&script).await;
    let stranger = Authority::load(&"other".parse().unwrap(), &key(71).to_pem().unwrap()).unwrap();
    std::fs::write(state.join("webhooks.pem"), stranger.self_signed(now()).unwrap().pem).unwrap();
    let (fake, _host, stop) = gated(&state, &url).await;
    let (_, rollout) = fake.publish(1).await;
    answers(&fake, &rollout, Verdict::Inconclusive).await;
    assert_eq!(script.asked(), Vec::<Value>::new());
    stop.send_replace(true);

    std::fs::write(state.join("webhooks.pem"), ca).unwrap();
    let (_stop, stopped) = watch::channel(false);
    let caller = Caller { ca: state.join("webhooks.pem"), again: Duration::from_secs(10) };
    tokio::spawn(run(fake.handle.clone(), caller, stopped));
    fake.phase_is(&rollout, PhaseName::Running).await;
    assert_eq!(script.asked().len(), 1);
    fake.stop().await;
}

/// Waits until the rollout has heard this from its webhook.
async fn answers(fake: &Fake, rollout: &RolloutId, want: Verdict) {
    let mut changes = fake.handle.changes();
    loop {
        let ask = rollout.clone();
        let told = fake.handle.query(move |desk| desk.view().rollout(&ask)?.answer(0));
        if told.await.unwrap() == Some(want) {
            return;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_says_fail_halts_and_is_asked_again_after_a_resume() {
    let (place, _) = fleet();
    let script = Script::of(&[verdict(Verdict::Fail, "errors rise"), verdict(Verdict::Pass, "")]);
    let url = serve(&script).await;
    let (fake, _host, stop) = gated(&place.path().join("state"), &url).await;
    let (_, rollout) = fake.publish(1).await;
    fake.phase_is(&rollout, PhaseName::Halted).await;
    let page = rollout.clone();
    let why = fake
        .handle
        .query(move |desk| desk.view().rollout(&page).map(|rollout| rollout.phase().clone()));
    let phase = format!("{:?}", why.await.unwrap().unwrap());
    assert!(phase.contains("errors rise"), "{phase}");
    let resumed = rollout.clone();
    let resume = fake.handle.change(move |desk| {
        desk.verb(&ada(), &resumed, (groundswell_coordinator::driver::Verb::Resume, "fixed"))
    });
    resume.await.unwrap().unwrap();
    fake.phase_is(&rollout, PhaseName::Running).await;
    assert!(script.asked().len() >= 2, "it is asked anew");
    stop.send_replace(true);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_inconclusive_and_says_why() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broken = Script::of(&[(StatusCode::INTERNAL_SERVER_ERROR, json!({}))]);
    let strange = Script::of(&[(StatusCode::OK, json!({ "ok": true }))]);
    for (url, says) in [
        (format!("http://{refused}/"), "connect to it"),
        (serve(&broken).await, "answers 500"),
        (serve(&strange).await, "want {\"verdict\""),
        (format!("https://{refused}/"), "webhook_ca"),
    ] {
        let (place, _) = fleet();
        let (fake, _host, stop) = gated(&place.path().join("state"), &url).await;
        let (_, rollout) = fake.publish(1).await;
        answers(&fake, &rollout, Verdict::Inconclusive).await;
        assert_eq!(fake.phase(&rollout).await, PhaseName::Gated, "{url}: the gate stays shut");
        let entries = fake.handle.query(|desk| desk.view().seq).await.unwrap();
        stop.send_replace(true);
        fake.stop().await;
        let log = std::fs::read_dir(place.path().join("state/ledger")).unwrap();
        let text: Vec<u8> =
            log.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        let text = String::from_utf8_lossy(&text).replace("\\\"", "\"");
        assert!(text.contains(says), "{url}: not in the ledger of {entries} entries");
    }
}
