//! Every bound that both sides must agree on, with its unit in its name. Bounds that only one side
//! needs live beside their use.

/// Longest name of a service, host, environment, fleet, operator or label, in bytes (a DNS label).
pub const NAME_MAX_BYTES: usize = 63;
/// Longest version string of a release, in bytes.
pub const VERSION_MAX_BYTES: usize = 64;
/// Labels on one host.
pub const LABELS_MAX: usize = 64;
/// Longest selector text, in bytes.
pub const SELECTOR_MAX_BYTES: usize = 4 * 1024;
/// Requirements in one selector.
pub const SELECTOR_TERMS_MAX: usize = 64;

/// Largest manifest payload, in bytes.
pub const MANIFEST_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Files and links in one manifest.
pub const MANIFEST_FILES_MAX: usize = 100_000;
/// Longest part of a path in a manifest, in bytes (the limit of common file systems).
pub const PATH_PART_MAX_BYTES: usize = 255;
/// Longest whole path in a manifest, in bytes; leaves room for the release directory below PATH_MAX.
pub const PATH_MAX_BYTES: usize = 1024;
/// Largest single file in a release, in bytes.
pub const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Largest unpacked release, in bytes.
pub const RELEASE_MAX_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Largest blob in a depot, in bytes.
pub const BLOB_MAX_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Commits listed in the source section of a manifest.
pub const SOURCE_COMMITS_MAX: usize = 500;
/// Longest free text in a manifest or a reason given by a person, in bytes.
pub const TEXT_MAX_BYTES: usize = 16 * 1024;
/// Probes in one release.
pub const PROBES_MAX: usize = 32;
/// Arguments of one command (probe or service), and each argument's bytes.
pub const ARGV_MAX: usize = 128;
/// Longest argument of a command, in bytes.
pub const ARG_MAX_BYTES: usize = 4 * 1024;
/// Units that one release may restart.
pub const UNITS_MAX: usize = 32;

/// Raw bytes in one bundle frame: the unit of compression, and what a reader must hold.
pub const BUNDLE_FRAME_MAX_BYTES: usize = 1024 * 1024;
/// Compressed bytes of one bundle frame: zstd's worst case for incompressible input stays below.
pub const BUNDLE_FRAME_PACKED_MAX_BYTES: usize = BUNDLE_FRAME_MAX_BYTES + 16 * 1024;
/// Frames in one bundle; with the frame size it bounds the unpacked bundle.
pub const BUNDLE_FRAMES_MAX: usize = 262_144;

/// Largest trust document other than the manifest, in bytes of payload.
pub const DOCUMENT_MAX_BYTES: usize = 64 * 1024;
/// Largest approval payload, in bytes.
pub const APPROVAL_MAX_BYTES: usize = 4 * 1024;
/// Signatures in one envelope.
pub const SIGNATURES_MAX: usize = 64;
/// Keys in one root document, over all roles.
pub const ROOT_KEYS_MAX: usize = 64;
/// Steps in one walk from an old root to the newest.
pub const ROOT_WALK_MAX: usize = 1_024;
/// Largest integer in a signed JSON document: what every JSON reader represents exactly.
pub const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Largest frame payload between agent and coordinator, in bytes.
pub const FRAME_MAX_BYTES: usize = 256 * 1024;
/// Services in one directive or report.
pub const SERVICES_PER_HOST_MAX: usize = 256;
/// Approvals carried beside one release.
pub const APPROVALS_MAX: usize = 16;
/// Longest failure text in a report, in bytes: the last lines of a log, not the log.
pub const FAILURE_TEXT_MAX_BYTES: usize = 4 * 1024;
/// Largest record in the store's view, in bytes.
pub const RECORD_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Longest enrolment token line, in bytes.
pub const TOKEN_MAX_BYTES: usize = 2 * 1024;

/// How long a permit to switch is valid, counted by the host from the moment it asked.
pub const PERMIT_VALID_MS: u64 = 2_000;
/// How long the coordinator takes a permit for usable: longer than the host does, since no two clocks run at the
/// same rate. Quartz differs by less than a thousandth; this leaves fifty times that. A halt waits at most this long
/// for a host that took a permit and fell silent.
pub const PERMIT_COUNTED_MS: u64 = 2_100;
/// Default seconds between an agent's beats on an idle connection; the coordinator may set another.
pub const HEARTBEAT_SECS: u64 = 20;
/// Missed beats after which the coordinator closes a session.
pub const HEARTBEATS_MISSED_MAX: u64 = 3;

const _: () = assert!(DOCUMENT_MAX_BYTES < FRAME_MAX_BYTES);
const _: () = assert!(FAILURE_TEXT_MAX_BYTES < FRAME_MAX_BYTES);
const _: () = assert!(
    (BUNDLE_FRAME_MAX_BYTES as u64) * (BUNDLE_FRAMES_MAX as u64) >= RELEASE_MAX_BYTES,
    "a bundle must be able to carry the largest release"
);
