//! `drain FILE [ADDRESS]` answers HTTP with what FILE held at its start: on ADDRESS, or on the listening
//! socket that it was given as its standard input. SIGTERM lets every open connection have one more answer.
//!
//! `/healthz` fails where FILE says `broken`; every other path is answered with 200 even then.

use std::net::TcpListener as Listener;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 8 * 1024;
/// How long open connections may take for their last request after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("name the file to answer with")?;
    let text: Arc<str> =
        std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?.into();
    let listener = match arguments.next() {
        Some(address) => {
            Listener::bind(&address).with_context(|| format!("listen on {address}"))?
        }
        None => Listener::from(std::io::stdin().as_fd().try_clone_to_owned()?),
    };
    listener.set_nonblocking(true).context("use the listening socket")?;
    let listener = TcpListener::from_std(listener).context("use the listening socket")?;
    let mut terminated = signal(SignalKind::terminate())?;
    let (stop, stopping) = watch::channel(false);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (line, _) = accepted.context("accept a connection")?;
                open.spawn(answer(line, Arc::clone(&text), stopping.clone()));
            }
            Some(_) = open.join_next() => {}
            _ = terminated.recv() => break,
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = async { while open.join_next().await.is_some() {} };
    timeout(DRAIN, drained).await.context("drain: connections stay idle")
}

/// Answers one connection until it ends, or has had its last answer.
async fn answer(
    mut line: TcpStream,
    text: Arc<str>,
    stopping: watch::Receiver<bool>,
) -> Result<()> {
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            anyhow::ensure!(head.len() < HEAD_MAX, "a request's head over {HEAD_MAX} bytes");
            if line.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let ill = head.starts_with(b"GET /healthz ") && text.contains("broken");
        let status = if ill { "500 Internal Server Error" } else { "200 OK" };
        let last = *stopping.borrow();
        let connection = if last { "close" } else { "keep-alive" };
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{text}"
        );
        line.write_all(answer.as_bytes()).await?;
        if last {
            return Ok(());
        }
    }
}
