//! Addresses of the machine's network interfaces (`getifaddrs(3)`).

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address that an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Such as `eth0`.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits name the network.
    pub prefix: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Only this machine itself is behind it.
    pub internal: bool,
}

/// Ends the list when it is dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // JUSTIFICATION: rustix has no call for it.
        // SAFETY: the pointer is what `getifaddrs` gave, and is freed once.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// Address of a `sockaddr`, if it is one of IP.
fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // JUSTIFICATION: the kernel's answer is a union of C.
    // SAFETY: it is not null, and every kind of address begins with its family.
    let family = i32::from(unsafe { (*address).sa_family });
    match family {
        libc::AF_INET => {
            // JUSTIFICATION: as above.
            // SAFETY: the family says that it is a `sockaddr_in`; it may lie at any address.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // JUSTIFICATION: as above.
            // SAFETY: the family says that it is a `sockaddr_in6`; it may lie at any address.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

fn mac(address: *const libc::sockaddr) -> Option<[u8; 6]> {
    if address.is_null() {
        return None;
    }
    // JUSTIFICATION: the kernel's answer is a union of C.
    // SAFETY: it is not null, and every kind of address begins with its family.
    if i32::from(unsafe { (*address).sa_family }) != libc::AF_PACKET {
        return None;
    }
    // JUSTIFICATION: as above.
    // SAFETY: the family says that it is a `sockaddr_ll`; it may lie at any address.
    let address = unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() };
    address.sll_addr[..6].try_into().ok()
}

fn bits(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(mask) => u32::from(mask).leading_ones(),
        IpAddr::V6(mask) => u128::from(mask).leading_ones(),
    }
}

/// Every IP address of every interface that is up.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut first = std::ptr::null_mut();
    // JUSTIFICATION: rustix has no call for it; `/proc` does not tell which interface has which address.
    // SAFETY: the pointer is valid for a write.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(first);
    let mut found = Vec::new();
    let mut macs = Vec::new();
    let mut at = list.0;
    while !at.is_null() {
        // JUSTIFICATION: a list of C.
        // SAFETY: it is not null, and the list lives until `list` is dropped.
        let entry = unsafe { &*at };
        at = entry.ifa_next;
        if entry.ifa_name.is_null() || entry.ifa_flags & libc::IFF_UP.cast_unsigned() == 0 {
            continue;
        }
        // JUSTIFICATION: as above.
        // SAFETY: it is not null, and a string of C that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }
            .to_string_lossy()
            .into_owned();
        if let Some(mac) = mac(entry.ifa_addr) {
            macs.push((name, mac));
        } else if let Some(address) = ip(entry.ifa_addr) {
            found.push(Interface {
                prefix: ip(entry.ifa_netmask).map_or(0, bits),
                internal: entry.ifa_flags & libc::IFF_LOOPBACK.cast_unsigned() != 0,
                mac: [0; 6],
                name,
                address,
            });
        }
    }
    for interface in &mut found {
        if let Some((_, mac)) = macs.iter().find(|(name, _)| *name == interface.name) {
            interface.mac = *mac;
        }
    }
    Ok(found)
}
