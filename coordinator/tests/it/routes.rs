//! Who may use which route: every row of the table, asked by every kind of caller over real TLS.

use std::sync::Arc;

use groundswell_common::api::{AuditPage, OperatorRole};
use groundswell_common::trust::{PublicKey, SecretKey};
use groundswell_common::{HostName, Timestamp};
use groundswell_coordinator::api::{Access, ROUTES, Route};
use groundswell_coordinator::ca::Authority;
use groundswell_coordinator::entry::{Entry, What};
use groundswell_coordinator::init::Layout;
use groundswell_net::tls::ClientConfig;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::bed::{Served, client_tls, key, now};

const ROLES: [(OperatorRole, &str); 5] = [
    (OperatorRole::Admin, "admin"),
    (OperatorRole::Operator, "operator"),
    (OperatorRole::Approver, "approver"),
    (OperatorRole::Publisher, "publisher"),
    (OperatorRole::Viewer, "viewer"),
];

/// Who asks, as the table knows callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Agent,
    Role(OperatorRole),
    /// A certificate that is good for TLS, of nobody that the ledger lets in.
    Stranger,
}

fn may(route: &Route, who: Who) -> bool {
    match (route.access, who) {
        (Access::Anyone, _) | (Access::Agent, Who::Agent) => true,
        (Access::Roles(roles), Who::Role(role)) => roles.contains(&role),
        (Access::Agent | Access::Roles(_), _) => false,
    }
}

/// The path with names of things that do not exist.
fn path(route: &Route) -> String {
    let digest = "0".repeat(64);
    let names = [("{host}", "nohost"), ("{service}", "nosvc"), ("{release}", "nosvc@1")];
    let path =
        names.iter().fold(route.path.to_owned(), |path, (part, name)| path.replace(part, name));
    path.replace("{rollout}", "nosvc-1").replace("{digest}", &digest)
}

fn authority(served: &Served) -> Authority {
    let pem = std::fs::read_to_string(Layout::new(&served.state()).keys().join("ca.pem")).unwrap();
    Authority::load(&served.settings.fleet, &pem).unwrap()
}

fn operator_tls(
    served: &Served,
    authority: &Authority,
    (name, key): (&str, &SecretKey),
    at: Timestamp,
) -> Arc<ClientConfig> {
    let pem = authority.operator(&name.parse().unwrap(), &key.public(), at).unwrap();
    served.tls(Some((&pem, &key.to_pem().unwrap())))
}

async fn put_operator(served: &Served, name: &str, role: &str, key: &PublicKey) -> String {
    let body = json!({ "name": name, "role": role, "key": key });
    let answer = served.json(&served.admin_tls(), (&Method::POST, "/v1/operators"), body).await;
    answer["certificate_pem"].as_str().unwrap().to_owned()
}

/// An agent that went through tokens and enrolment.
pub(crate) async fn enrolled_agent(served: &Served) -> Arc<ClientConfig> {
    let ask = json!({ "environment": "production", "ttl_secs": 60, "count": 1 });
    let tokens = served.json(&served.admin_tls(), (&Method::POST, "/v1/enroll-tokens"), ask).await;
    let token: groundswell_common::token::Token =
        tokens["tokens"][0].as_str().unwrap().parse().unwrap();
    let agent = key(40);
    let name: HostName = "h1".parse().unwrap();
    let ask = json!({ "secret": token.secret, "name": name, "key": agent.public() });
    let enrolled = served.json(&served.tls(None), (&Method::POST, "/v1/enroll"), ask).await;
    let certificate = enrolled["certificate_pem"].as_str().unwrap();
    served.tls(Some((certificate, &agent.to_pem().unwrap())))
}

/// A certificate that is good, of a key that is the operator's no more.
const REPLACED: &str = "admin with a replaced key";

/// Every caller whose certificate passes TLS.
async fn callers(served: &Served) -> Vec<(String, Who, Arc<ClientConfig>)> {
    let authority = authority(served);
    let mut callers = vec![
        ("nobody".to_owned(), Who::Nobody, served.tls(None)),
        ("agent".to_owned(), Who::Agent, enrolled_agent(served).await),
    ];
    for (seed, (role, name)) in (10_u8..).zip(ROLES) {
        let key = key(seed);
        let pem = put_operator(served, name, name, &key.public()).await;
        let tls = served.tls(Some((&pem, &key.to_pem().unwrap())));
        callers.push((name.to_owned(), Who::Role(role), tls));
    }
    let unknown = operator_tls(served, &authority, ("unknown", &key(30)), now());
    callers.push(("unknown operator".to_owned(), Who::Stranger, unknown));
    let old = key(31);
    let pem = put_operator(served, "turned", "admin", &old.public()).await;
    put_operator(served, "turned", "admin", &key(32).public()).await;
    let replaced = served.tls(Some((&pem, &old.to_pem().unwrap())));
    callers.push((REPLACED.to_owned(), Who::Stranger, replaced));
    callers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_lets_in_exactly_whom_it_names() {
    let served = Served::start().await;
    for (name, who, tls) in callers(&served).await {
        for route in ROUTES {
            let path = path(route);
            let answer = served.ask(&tls, (&route.method, &path), Vec::new()).await.unwrap();
            let line = format!("{name}: {} {path} is {}", route.method, answer.status);
            let kept_out =
                matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert_eq!(kept_out, !may(route, who), "{line}");
            if kept_out {
                let nobody = answer.status == StatusCode::UNAUTHORIZED;
                assert_eq!(nobody, who == Who::Nobody, "{line}");
            } else {
                assert!(answer.status.as_u16() < 500, "{line}");
                assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{line}");
            }
        }
        if name == REPLACED {
            let answer = served.ask(&tls, (&Method::GET, "/v1/status"), Vec::new()).await.unwrap();
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(said.contains("use the newer profile"), "{said}");
        }
        let answer = served.ask(&tls, (&Method::GET, "/v1/nothing"), Vec::new()).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "no_route"));
        let answer = served.ask(&tls, (&Method::DELETE, "/v1/status"), Vec::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{name}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_over_or_of_others_get_no_answer_at_all() {
    let served = Served::start().await;
    let admin = key(20);
    let year_ago = Timestamp::from_secs(now().as_secs() - 400 * 86_400);
    let expired = operator_tls(&served, &authority(&served), ("ada", &admin), year_ago);
    let fleet = &served.settings.fleet;
    let other = Authority::load(fleet, &key(21).to_pem().unwrap()).unwrap();
    let foreign = operator_tls(&served, &other, ("ada", &admin), now());
    for (name, tls) in [("expired", expired), ("foreign", foreign)] {
        for route in ROUTES {
            let asked = served.ask(&tls, (&route.method, &path(route)), Vec::new()).await;
            assert!(asked.is_err(), "{name}: {} {} was answered", route.method, route.path);
        }
    }
    // And a client does not talk to a coordinator of another authority.
    let not_ours = client_tls(&other.self_signed(now()).unwrap().pem, None);
    assert!(served.ask(&not_ours, (&Method::GET, "/healthz"), Vec::new()).await.is_err());
    let answer = served.ask(&served.tls(None), (&Method::GET, "/healthz"), Vec::new()).await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_says_why_a_host_was_drained_and_why_it_was_let_in_again() {
    let served = Served::start().await;
    enrolled_agent(&served).await;
    let (admin, post) = (served.admin_tls(), Method::POST);
    served.json(&admin, (&post, "/v1/hosts/h1/drain"), json!({ "why": "a new disk" })).await;
    served.json(&admin, (&post, "/v1/hosts/h1/undrain"), json!({ "why": "it is in" })).await;
    let page = served.ask(&admin, (&Method::GET, "/v1/audit"), Vec::new()).await.unwrap();
    let page: AuditPage = serde_json::from_slice(&page.body).unwrap();
    let reasons = |payload: &str| {
        let what = Entry::from_payload(1, payload.as_bytes()).unwrap().what;
        let What::HostDrained { why, lifted, .. } = what else { return None };
        Some((why, lifted))
    };
    let found: Vec<_> = page.entries.iter().filter_map(|entry| reasons(&entry.payload)).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found, [(text("a new disk"), None), (None, text("it is in"))]);
    // Entries from before the second reason was kept are read as they were.
    let old = page.entries.last().unwrap().payload.replace(",\"lifted\":\"it is in\"", "");
    assert!(!old.contains("lifted"), "{old}");
    assert_eq!(reasons(&old), Some((None, None)));
    served.stop().await;
}

#[test]
fn only_readers_rows_are_open_to_viewers() {
    for route in ROUTES {
        let reads =
            [Method::GET, Method::HEAD].contains(&route.method) || route.path.ends_with("/plan");
        if let Access::Roles(roles) = route.access {
            assert!(roles.contains(&OperatorRole::Admin), "{}", route.path);
            assert!(reads || !roles.contains(&OperatorRole::Viewer), "{}", route.path);
        }
    }
}
