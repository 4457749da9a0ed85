//! Who asks, and whether they may: the one layer that every route stands behind.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use groundswell_common::api::OperatorRole;
use groundswell_common::trust::PublicKey;
use groundswell_common::{HostId, OperatorName, name_of};
use groundswell_net::{Peer, PeerRole};

use super::{Api, ApiError};

/// Who is at the other end of a connection, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Without a certificate.
    Nobody,
    /// With a certificate of this fleet.
    Peer(Peer),
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a certificate.
    Anyone,
    /// An agent with a certificate.
    Agent,
    /// An operator in one of these roles.
    Roles(&'static [OperatorRole]),
}

/// An operator who may use the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operator(pub(super) OperatorName);

/// An agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) host: HostId,
    pub(super) key: PublicKey,
}

/// Passes a request on when its caller may use the route.
pub(super) async fn guard(
    State((api, access)): State<(Api, Access)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Nobody);
    match access {
        Access::Anyone => {}
        Access::Agent => {
            let agent = agent(&api, caller)?;
            request.extensions_mut().insert(agent);
        }
        Access::Roles(roles) => {
            let operator = operator(&api, caller, roles)?;
            request.extensions_mut().insert(operator);
        }
    }
    Ok(next.run(request).await)
}

fn agent(api: &Api, caller: Caller) -> Result<Agent, ApiError> {
    match peer(api, caller)? {
        Peer { role: PeerRole::Agent(host), key, .. } => Ok(Agent { host, key }),
        Peer { role: PeerRole::Operator(_), .. } => Err(forbidden("this route is for agents")),
    }
}

fn operator(api: &Api, caller: Caller, roles: &[OperatorRole]) -> Result<Operator, ApiError> {
    let peer = peer(api, caller)?;
    let PeerRole::Operator(name) = peer.role else {
        return Err(forbidden("this route is not for agents"));
    };
    match api.handle.operators().get(&name) {
        None => Err(forbidden("the certificate's operator is not known")),
        Some(known) if known.key != peer.key => {
            let hint = "use the newer profile, the file that 'swell operator add' wrote last";
            let texts = ("the certificate was replaced by a newer one", hint);
            Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", texts))
        }
        Some(known) if !roles.contains(&known.role) => {
            let role = name_of(&known.role);
            Err(forbidden(&format!("role {role} may not do this")))
        }
        Some(_) => Ok(Operator(name)),
    }
}

fn peer(api: &Api, caller: Caller) -> Result<Peer, ApiError> {
    match caller {
        Caller::Peer(peer) if peer.fleet == *api.fleet() => Ok(peer),
        Caller::Peer(_) => Err(forbidden("the certificate is of another fleet")),
        Caller::Nobody => {
            let texts = ("this route needs a client certificate", "use a profile of an operator");
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "no_certificate", texts))
        }
    }
}

fn forbidden(message: &str) -> ApiError {
    let texts = (message, "ask an admin for a profile with the role that this needs");
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", texts)
}
