//! What a host's service really answers, asked over plain HTTP as its customers would.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Longest answer, in bytes.
const ANSWER_MAX_BYTES: u64 = 4 * 1024;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: String,
}

/// GET of `path` on a port of this machine; `None` when nothing answers.
pub(super) async fn get(port: u16, path: &str) -> Option<Answer> {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.take(ANSWER_MAX_BYTES).read_to_string(&mut text).await.ok()?;
        parse(&text)
    };
    timeout(ANSWER_MAX, ask).await.ok().flatten()
}

/// The version that the service on a port names; `None` when nothing answers.
pub(super) async fn version(port: u16) -> Option<String> {
    let answer = get(port, "/").await.filter(|answer| answer.status == 200)?;
    answer.body.split_whitespace().nth(1).map(str::to_owned)
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_parted_into_status_and_body() {
        let answer = parse("HTTP/1.1 500 Oh\r\nA: b\r\n\r\nno stock\n").expect("answer");
        assert_eq!((answer.status, answer.body.as_str()), (500, "no stock"));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None, "a cut answer is none");
    }
}
