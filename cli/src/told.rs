//! How an error is told: to people its cause first and a hint below, to programs as one object of the form
//! that the API has.

use groundswell_common::api::{ErrorAnswer, ErrorBody};

use crate::client::ClientError;
use crate::exit::Exit;
use crate::output::clean;

/// An error in the words that leave the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told(ErrorBody);

impl Told {
    /// The error with its whole chain. What the coordinator refuses is told in its own words; which route
    /// was asked is of interest to those who look for a defect.
    pub(crate) fn of(error: &anyhow::Error, exit: Exit, verbose: bool) -> Self {
        let client = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
        let hint = client.and_then(ClientError::hint).unwrap_or_default().to_owned();
        let api = client.and_then(ClientError::code);
        let code = api.unwrap_or(exit.name()).to_owned();
        let message = match client {
            Some(ClientError::Api { body, .. }) if !verbose => body.message.clone(),
            Some(_) | None => format!("failed to {error:#}"),
        };
        Self(ErrorBody { code, message, hint })
    }

    /// An error in words of this process's own.
    pub(crate) fn plain(exit: Exit, message: impl Into<String>) -> Self {
        let (code, message) = (exit.name().to_owned(), message.into());
        Self(ErrorBody { code, message, hint: String::new() })
    }

    /// One line, further lines where a file is shown, and the hint.
    pub(crate) fn text(&self) -> String {
        let ErrorBody { code, message, hint } = &self.0;
        // A parser shows the line that it means; nothing else has line feeds of its own.
        let lines: Vec<String> = message.trim_end().split('\n').map(clean).collect();
        let mut text = format!("swell: {}", lines.join("\n  "));
        if !Exit::NAMES.contains(&code.as_str()) && !text.ends_with(']') {
            text.push_str(&format!(" [{}]", clean(code)));
        }
        if !hint.is_empty() {
            text.push_str(&format!("\n  hint: {}", clean(hint)));
        }
        text
    }

    /// As the API's own errors.
    pub(crate) fn json(&self) -> String {
        let answer = ErrorAnswer { error: self.0.clone() };
        serde_json::to_string(&answer).unwrap_or_else(|_| self.text())
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn refusal() -> anyhow::Error {
        let body = ErrorBody {
            code: "unknown_release".into(),
            message: "no release \"9\" is published".into(),
            hint: "give one".into(),
        };
        let path = "/v1/releases/shop@9".into();
        ClientError::Api { path, status: StatusCode::NOT_FOUND, body }.into()
    }

    #[test]
    fn the_cause_comes_first_and_the_route_only_where_it_is_asked_for() {
        let told = Told::of(&refusal(), Exit::Failed, false);
        assert_eq!(
            told.text(),
            "swell: no release \"9\" is published [unknown_release]\n  hint: give one"
        );
        let told = Told::of(&refusal(), Exit::Failed, true);
        let want = "swell: failed to call /v1/releases/shop@9: no release \"9\" is published \
                    [unknown_release]\n";
        assert!(told.text().starts_with(want), "{}", told.text());
    }

    #[test]
    fn programs_get_an_object_whatever_failed() {
        let told = Told::of(&refusal(), Exit::Failed, false).json();
        assert_eq!(
            told,
            r#"{"error":{"code":"unknown_release","message":"no release \"9\" is published","hint":"give one"}}"#
        );
        let own = Told::of(&anyhow::anyhow!("read the policy x"), Exit::Usage, false);
        assert_eq!(
            own.json(),
            r#"{"error":{"code":"usage","message":"failed to read the policy x","hint":""}}"#
        );
        assert_eq!(own.text(), "swell: failed to read the policy x");
    }

    #[test]
    fn a_parser_s_picture_of_a_line_stays_a_picture() {
        let error = toml::from_str::<toml::Table>("a = 1\nservise x\n").expect_err("no TOML");
        let text =
            Told::of(&anyhow::Error::new(error).context("read x"), Exit::Failed, false).text();
        assert!(text.starts_with("swell: failed to read x: TOML parse error at line 2"), "{text}");
        assert!(text.contains("\n  2 | servise x\n"), "{text}");
    }
}
