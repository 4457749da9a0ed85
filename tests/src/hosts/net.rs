//! Owns the private network: one bridge in the run's own network namespace, one cable a host.
//!
//! Each power-on gets a new network namespace: an old one would keep the dead host's sockets, whose
//! last words would go out as soon as the cable is back.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::must::Must;
use crate::tools::{output, run, tool};

/// Where the test itself, and what it starts outside of hosts, is reached from the hosts.
pub const SWITCH_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Length of the network's prefix in bits.
const PREFIX_BITS: u8 = 16;
const BRIDGE: &str = "br0";

/// A set of cables whose packets vanish while their carrier stays: the half-open connection.
const SILENCE: &str = "\
table bridge bed {
  set silent {
    type ifname
  }
  chain passing {
    type filter hook forward priority 0; policy accept;
    iifname @silent drop
    oifname @silent drop
  }
  chain to_switch {
    type filter hook input priority 0; policy accept;
    iifname @silent drop
  }
  chain from_switch {
    type filter hook output priority 0; policy accept;
    oifname @silent drop
  }
}
";

/// Builds the bridge and the rules of silence, in an empty network namespace.
pub(super) fn build_switch() {
    run(tool("ip").args(["link", "add", BRIDGE, "type", "bridge"]));
    run(tool("ip").args(["link", "set", BRIDGE, "up"]));
    let address = format!("{SWITCH_ADDRESS}/{PREFIX_BITS}");
    run(tool("ip").args(["address", "add", &address, "dev", BRIDGE]));
    std::fs::create_dir_all("/run/netns").must("make the folder of network namespaces");
    let mut nft = tool("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().must("start nft");
    let mut rules = nft.stdin.take().must("reach nft");
    rules.write_all(SILENCE.as_bytes()).must("hand nft its rules");
    drop(rules);
    assert!(nft.wait().must("wait for nft").success(), "nft refused the rules of silence");
}

/// One host's place on the switch.
#[derive(Debug)]
pub(super) struct Port {
    number: u8,
    /// How often the host was powered on: part of its namespace's name.
    boots: u32,
}

impl Port {
    pub(super) fn new(number: u8) -> Self {
        Self { number, boots: 0 }
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 1, self.number)
    }

    /// The network namespace of the present boot.
    pub(super) fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(self.namespace_name())
    }

    /// Makes the namespace of a new boot and plugs its cable in.
    pub(super) fn connect(&mut self) {
        self.boots += 1;
        let (name, cable) = (self.namespace_name(), self.cable());
        run(tool("ip").args(["netns", "add", &name]));
        // The same address on the wire at each boot, as a real card has: neighbours need not learn.
        let card = format!("02:99:00:00:01:{:02x}", self.number);
        let near = ["link", "add", &cable, "type", "veth"];
        let far = ["peer", "name", "eth0", "address", &card, "netns", &name];
        run(tool("ip").args(near).args(far));
        run(tool("ip").args(["link", "set", &cable, "master", BRIDGE, "up"]));
        let address = format!("{}/{PREFIX_BITS}", self.address());
        self.ip(&["link", "set", "lo", "up"]);
        self.ip(&["address", "add", &address, "dev", "eth0"]);
        self.ip(&["link", "set", "eth0", "up"]);
    }

    /// Removes the cable and the namespace of a boot that is over.
    pub(super) fn disconnect(&self) {
        // The cable goes by itself once the kernel has cleaned up after the host: often before us.
        output(tool("ip").args(["link", "delete", &self.cable()]));
        run(tool("ip").args(["netns", "delete", &self.namespace_name()]));
    }

    /// Pulls the cable out: both ends lose the carrier.
    pub(super) fn pull(&self) {
        run(tool("ip").args(["link", "set", &self.cable(), "down"]));
    }

    pub(super) fn plug(&self) {
        run(tool("ip").args(["link", "set", &self.cable(), "up"]));
    }

    /// Lets every packet vanish while the carrier stays.
    pub(super) fn silence(&self) {
        run(tool("nft").args(["add", "element", "bridge", "bed", "silent", &self.element()]));
    }

    pub(super) fn unsilence(&self) {
        run(tool("nft").args(["delete", "element", "bridge", "bed", "silent", &self.element()]));
    }

    fn element(&self) -> String {
        format!("{{ \"{}\" }}", self.cable())
    }

    fn cable(&self) -> String {
        format!("cable{}", self.number)
    }

    fn namespace_name(&self) -> String {
        format!("host{}-{}", self.number, self.boots)
    }

    /// `ip` within the host's namespace. (`ip netns exec` would make a mount namespace that pins
    /// disks.)
    fn ip(&self, arguments: &[&str]) {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.namespace());
        run(tool("nsenter").arg(net).arg("--").arg(crate::tools::locate("ip")).args(arguments));
    }
}
