//! Real handshakes and frames over loopback: who is let in, who the peer is, what a deadline does.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use groundswell_common::HostId;
use groundswell_common::trust::SecretKey;
use groundswell_common::wire::{ToAgent, ToCoordinator};
use groundswell_net::tls::{ClientAuth, client_config, server_config};
use groundswell_net::{Framed, NetError, Peer, PeerError, PeerRole, connect, connect_plain};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(5);

struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn key_pem(seed: u8) -> (SecretKey, String) {
    let key = SecretKey::from_seed(&Zeroizing::new([seed; 32]));
    let pem = key.to_pem().expect("pem").to_string();
    (key, pem)
}

fn authority(seed: u8) -> Authority {
    let pair = KeyPair::from_pem(&key_pem(seed).1).expect("rcgen reads our keys");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&pair).expect("self-signed").der().to_vec();
    Authority { der, issuer: Issuer::new(params, pair) }
}

fn leaf(
    ca: &Authority,
    seed: u8,
    name: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let (_, pem) = key_pem(seed);
    let pair = KeyPair::from_pem(&pem).expect("key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
    params.subject_alt_names = vec![name];
    params.extended_key_usages = vec![usage];
    (params.signed_by(&pair, &ca.issuer).expect("signed").pem(), pem)
}

fn agent(ca: &Authority, seed: u8, id: HostId) -> (String, String) {
    let name = Peer::uri(&"demo".parse().expect("fleet"), &PeerRole::Agent(id));
    let name = SanType::URI(name.try_into().expect("ascii"));
    leaf(ca, seed, name, ExtendedKeyUsagePurpose::ClientAuth)
}

fn id_of(seed: u8) -> HostId {
    HostId::of_key(key_pem(seed).0.public().as_bytes())
}

/// One connection: what the server sees of the peer, and what the client gets back.
async fn meet(
    clients: ClientAuth,
    identity: Option<(&str, &str)>,
) -> (Option<Result<Option<Peer>, PeerError>>, Result<Option<ToAgent>, NetError>) {
    let ca = authority(1);
    let server = leaf(
        &ca,
        2,
        SanType::IpAddress("127.0.0.1".parse().expect("address")),
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    let config = server_config(std::slice::from_ref(&ca.der), &server.0, &server.1, clients)
        .expect("server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let serve = async {
        let (stream, _) = listener.accept().await.expect("accept");
        let stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
        let peer = Peer::from_certificates(stream.get_ref().1.peer_certificates());
        let mut framed = Framed::new(stream, "client");
        let got = framed.recv::<ToCoordinator>(SOON).await.expect("message");
        assert_eq!(got, Some(ToCoordinator::Beat));
        framed.send(&ToAgent::Beat, SOON).await.expect("answer");
        Some(peer)
    };
    let dial = async {
        let config = client_config(std::slice::from_ref(&ca.der), identity).expect("client");
        let stream = connect(&address, config, SOON).await?;
        let mut framed = Framed::new(stream, "server");
        framed.send(&ToCoordinator::Beat, SOON).await?;
        framed.recv::<ToAgent>(SOON).await
    };
    tokio::join!(serve, dial)
}

#[tokio::test]
async fn an_agent_is_known_by_its_certificate() {
    let (cert, key) = agent(&authority(1), 7, id_of(7));
    let (peer, answer) = meet(ClientAuth::Required, Some((&cert, &key))).await;
    let peer = peer.expect("handshake").expect("identity").expect("not anonymous");
    assert_eq!(peer.role, PeerRole::Agent(id_of(7)));
    assert_eq!(peer.fleet.as_str(), "demo");
    assert_eq!(peer.key, key_pem(7).0.public());
    assert_eq!(answer.expect("answer"), Some(ToAgent::Beat));
}

#[tokio::test]
async fn anonymous_clients_are_refused_or_marked() {
    let (peer, answer) = meet(ClientAuth::Required, None).await;
    assert!(peer.is_none() && answer.is_err());
    let (peer, answer) = meet(ClientAuth::Optional, None).await;
    assert_eq!(peer, Some(Ok(None)));
    assert!(answer.is_ok());
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_use_is_refused() {
    let (cert, key) = agent(&authority(9), 7, id_of(7));
    let (peer, answer) = meet(ClientAuth::Optional, Some((&cert, &key))).await;
    assert!(peer.is_none() && answer.is_err());
    let name = SanType::DnsName("x".try_into().expect("name"));
    let (cert, key) = leaf(&authority(1), 7, name, ExtendedKeyUsagePurpose::ServerAuth);
    let (peer, answer) = meet(ClientAuth::Required, Some((&cert, &key))).await;
    assert!(peer.is_none() && answer.is_err());
}

#[tokio::test]
async fn a_host_id_that_is_not_the_hash_of_the_key_is_refused() {
    let (cert, key) = agent(&authority(1), 7, id_of(8));
    let (peer, _) = meet(ClientAuth::Required, Some((&cert, &key))).await;
    assert_eq!(peer, Some(Err(PeerError::HostId)));
}

#[tokio::test]
async fn a_certificate_without_one_plain_name_is_no_peer() {
    for name in ["groundswell://demo/agent/xyz", "groundswell://demo/root/a", "https://a"] {
        let name = SanType::URI(name.try_into().expect("ascii"));
        let (cert, key) = leaf(&authority(1), 7, name, ExtendedKeyUsagePurpose::ClientAuth);
        let (peer, _) = meet(ClientAuth::Required, Some((&cert, &key))).await;
        assert_eq!(peer, Some(Err(PeerError::Name)));
    }
}

#[tokio::test]
async fn a_server_with_another_name_or_a_client_certificate_is_refused() {
    let ca = authority(1);
    for (name, usage) in [
        (SanType::DnsName("other".try_into().expect("name")), ExtendedKeyUsagePurpose::ServerAuth),
        (
            SanType::IpAddress("127.0.0.1".parse().expect("address")),
            ExtendedKeyUsagePurpose::ClientAuth,
        ),
    ] {
        let (cert, key) = leaf(&ca, 2, name, usage);
        let config =
            server_config(std::slice::from_ref(&ca.der), &cert, &key, ClientAuth::Optional)
                .expect("server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let accept = async {
            let (stream, _) = listener.accept().await.expect("accept");
            TlsAcceptor::from(config).accept(stream).await.is_ok()
        };
        let dial =
            connect(&address, client_config(std::slice::from_ref(&ca.der), None).expect("c"), SOON);
        let (_, dialled) = tokio::join!(accept, dial);
        assert!(matches!(dialled, Err(NetError::Reach { .. })), "{dialled:?}");
    }
}

#[tokio::test]
async fn frames_survive_any_cut_and_a_dropped_receive_loses_nothing() {
    let (near, far) = tokio::io::duplex(64);
    let mut framed = Framed::new(near, "far");
    let writer = tokio::spawn(async move {
        let mut far = far;
        let body = groundswell_common::codec::to_frame(&ToCoordinator::Beat).expect("frame");
        let bytes = groundswell_common::wire::frame(&body).expect("frame");
        for byte in bytes.iter().chain(&bytes) {
            far.write_all(&[*byte]).await.expect("write");
            tokio::task::yield_now().await;
        }
    });
    let mut got = 0;
    while got < 2 {
        match framed.recv::<ToCoordinator>(Duration::from_millis(1)).await {
            Ok(Some(ToCoordinator::Beat)) => got += 1,
            Err(NetError::Deadline { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    writer.await.expect("writer");
    assert!(matches!(framed.recv::<ToCoordinator>(SOON).await, Ok(None)), "a clean end");
}

#[tokio::test]
async fn silence_and_half_a_frame_have_their_errors() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut framed = Framed::new(near, "far");
    let silent = framed.recv::<ToCoordinator>(Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(NetError::Deadline { millis: 20, .. })));
    far.write_all(&[0, 0, 0, 9, 1]).await.expect("write");
    drop(far);
    let cut = framed.recv::<ToCoordinator>(SOON).await;
    assert!(matches!(cut, Err(NetError::Io { .. })), "{cut:?}");
    let (near, mut far) = tokio::io::duplex(64);
    far.write_all(&[0xff; 8]).await.expect("write");
    let noise = Framed::new(near, "far").recv::<ToCoordinator>(SOON).await;
    assert!(matches!(noise, Err(NetError::Frame { .. })), "{noise:?}");
    let config = client_config(&[authority(1).der], None).expect("client");
    let bad = connect("no-port", Arc::clone(&config), SOON).await;
    assert!(matches!(bad, Err(NetError::Address(_))));
}

#[tokio::test]
async fn a_literal_is_reached_with_its_brackets_and_a_deadline_says_the_whole_wait() {
    let deaf = TcpListener::bind("[::1]:0").await.expect("bind");
    let address = deaf.local_addr().expect("address").to_string();
    let config = client_config(&[authority(1).der], None).expect("client");
    let soon = Duration::from_millis(300);
    let error = connect(&address, Arc::clone(&config), soon).await.expect_err("deaf");
    let text = groundswell_common::chain(&error);
    assert!(text.starts_with(&format!("connect to {address}: no answer within ")), "{text}");
    let plain = connect_plain(&address, SOON).await.expect("the kernel takes the connection");
    assert_eq!(plain.peer_addr().expect("peer").to_string(), address);
    let waited = NetError::Deadline { peer: "a:1".into(), millis: 0 }.waited(soon);
    assert_eq!(waited.to_string(), "hear from a:1 within 300 ms");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let config = client_config(&[authority(1).der], None).expect("client");
    for answer in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b""] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("accept");
            stream.write_all(answer).await.expect("answer");
            stream.shutdown().await.expect("end");
            stream
        };
        let (_stream, dialled) = tokio::join!(serve, connect(&address, Arc::clone(&config), SOON));
        let text = groundswell_common::chain(&dialled.expect_err("no TLS"));
        assert!(text.ends_with("is it the right port?"), "{text}");
        assert!(!text.contains("docs.rs"), "{text}");
    }
}
