#!/bin/sh
# Project docker-bridge
#
# It builds by hand what nsbridge builds, in the order in which one would explain it.
# Written by nsbridge for a host like the one it was asked on: its uplink, its settings and its firewall. To be run as
# root, with iproute2, procps and nftables.
set -eu

# The target of a neighbour advertisement has a name (icmpv6 taddr) in newer versions of nft alone. Where yours has
# none for it, the two rules that ask for it are left out: the only thing that this script can't do as nsbridge does.
rules() {
    if echo 'table bridge probe { chain probe { icmpv6 taddr :: } }' | nft -c -f - 2>/dev/null; then
        nft -f -
    else
        echo "this nft doesn't know 'icmpv6 taddr': two rules are left out" >&2
        sed '/icmpv6 taddr/d' | nft -f -
    fi
}

# 1. Namespaces ------------------------------------------------------------------------------------
# A network namespace has its own interfaces, addresses, routes and rules. A new one has a loopback.

# namespace ns1
ip netns add ns1
ip -n ns1 link set dev lo up alias 'nsbridge: a namespace of ours'

# namespace ns2
ip netns add ns2
ip -n ns2 link set dev lo up alias 'nsbridge: a namespace of ours'

# 2. Bridges ---------------------------------------------------------------------------------------
# A bridge is a switch inside the kernel. Its own address on it is the gateway of all who are plugged in.

# bridge of network 'ns_br'
ip link add name ns_br type bridge mcast_snooping 0 stp_state 0
ip link set dev ns_br address 02:3f:6a:f2:b5:54 mtu 1500 addrgenmode none

# the marks by which nsbridge knows it again
ip link set dev ns_br group 0x6e736200 alias 'nsbridge: network ns_br'

# no IPv6 address here
sysctl -qw net.ipv6.conf.ns_br.disable_ipv6=1

# all is set, so it is raised
ip link set dev ns_br up

# gateway of network 'ns_br'
ip address add 175.18.0.1/24 dev ns_br

# 3. Rules -----------------------------------------------------------------------------------------
# One table decides what may pass between the bridges and the world, another one checks who sends. They are
# written once; networks and ports are elements of their sets and maps. Nothing is plugged in yet, so there is
# no moment without them.

# our table inet nsbridge: what may pass, and what is rewritten
nft -f - <<'END'
table inet nsbridge {
	comment "nsbridge"
	set bridges {
		type ifname
		comment "bridges of our networks"
	}

	set internal {
		type ifname
		comment "bridges of networks with no way in or out"
	}

	set icc {
		type ifname . ifname
		comment "bridge pairs whose endpoints may talk directly"
	}

	set raised {
		type nf_proto
		comment "families whose forwarding we turned on"
	}

	set closed {
		type ifname
		comment "bridges of others that were there, unforwarded, when we turned forwarding on"
	}

	set same {
		type ifname . ifname
		comment "each of them with itself: frames that stay on one bridge"
	}

	set trusted {
		type ifname . ifname
		comment "interfaces that may reach all of a network, with its bridge"
	}

	set unprotected {
		type ifname . nf_proto
		comment "bridges whose endpoints may be reached directly from outside"
	}

	set routed {
		type ifname . nf_proto
		comment "bridges of networks without NAT"
	}

	set routed4 {
		type ipv4_addr . inet_proto . inet_service
		comment "ports published by networks without NAT"
	}

	set routed6 {
		type ipv6_addr . inet_proto . inet_service
		comment "ports published by networks without NAT"
	}

	set home4 {
		type ifname . ipv4_addr
		flags interval
		comment "each bridge with its IPv4 subnet"
	}

	set home6 {
		type ifname . ipv6_addr
		flags interval
		comment "each bridge with its IPv6 subnet"
	}

	set subnets4 {
		type ipv4_addr
		flags interval
		comment "IPv4 subnets of our networks"
	}

	set subnets6 {
		type ipv6_addr
		flags interval
		comment "IPv6 subnets of our networks"
	}

	set hidden4 {
		type ipv4_addr
		flags interval
		comment "IPv4 subnets that leave with the host's address"
	}

	set hidden6 {
		type ipv6_addr
		flags interval
		comment "IPv6 subnets that leave with the host's address"
	}

	map publish4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		comment "ports on every address"
	}

	map publish6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
		comment "ports on every address"
	}

	map bound4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		comment "ports on one address of the host"
	}

	map bound6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
		comment "ports on one address of the host"
	}

	map face4 {
		type ifname . inet_proto . inet_service : ipv4_addr . inet_service
		comment "ports on one interface of the host"
	}

	map own4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		comment "the same by the interface's addresses, for the host itself"
	}

	map turns4 {
		typeof meta l4proto . th dport . numgen inc mod 60 : ip daddr . th dport
		comment "ports that endpoints share, turn by turn"
	}

	map ranges4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr
		flags interval
		comment "ranges of ports that keep their numbers"
	}

	map source4 {
		type ipv4_addr : ipv4_addr
		flags interval
		comment "subnets that leave with one address of the host"
	}

	map face6 {
		type ifname . inet_proto . inet_service : ipv6_addr . inet_service
		comment "ports on one interface of the host"
	}

	map own6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
		comment "the same by the interface's addresses, for the host itself"
	}

	map turns6 {
		typeof meta l4proto . th dport . numgen inc mod 60 : ip6 daddr . th dport
		comment "ports that endpoints share, turn by turn"
	}

	map ranges6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr
		flags interval
		comment "ranges of ports that keep their numbers"
	}

	map source6 {
		type ipv6_addr : ipv6_addr
		flags interval
		comment "subnets that leave with one address of the host"
	}

	map defaults {
		type ifname : verdict
		comment "networks whose endpoints begin nothing unless allowed"
	}

	map out4_1 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out4_2 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out4_3 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out4_4 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out4_5 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out6_1 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out6_2 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out6_3 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out6_4 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map out6_5 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in4_1 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in4_2 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in4_3 {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in6_1 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in6_2 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map in6_3 {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host4_1 {
		type ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host4_2 {
		type ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host4_3 {
		type ipv4_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host6_1 {
		type ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host6_2 {
		type ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	map host6_3 {
		type ipv6_addr . inet_proto . inet_service : verdict
		flags interval
	}

	chain allow {
		comment "ours to allow"
		meta mark set meta mark | 0x04000000 accept comment "marked, so that a foreign chain that drops can let it pass"
	}

	chain allow_log {
		comment "allowed, and logged"
		limit rate 10/second burst 50 packets log prefix "nsbridge allow: " comment "not more than the log can take"
		goto allow
	}

	chain deny {
		comment "denied without a word"
		counter drop
	}

	chain deny_log {
		comment "denied, and logged"
		limit rate 10/second burst 50 packets log prefix "nsbridge deny: " comment "not more than the log can take"
		goto deny
	}

	chain refuse {
		comment "denied, and the sender is told"
		counter reject
	}

	chain refuse_log {
		comment "denied, told and logged"
		limit rate 10/second burst 50 packets log prefix "nsbridge deny: " comment "not more than the log can take"
		goto refuse
	}

	chain admin {
		comment "your own rules: nft add rule inet nsbridge admin ...; nsbridge never changes them"
	}

	chain policy_out {
		comment "connections that endpoints begin"
		ip saddr . ip daddr . meta l4proto . th dport vmap @out4_1 comment "level 1, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @out6_1 comment "level 1, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @out4_2 comment "level 2, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @out6_2 comment "level 2, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @out4_3 comment "level 3, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @out6_3 comment "level 3, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @out4_4 comment "level 4, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @out6_4 comment "level 4, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @out4_5 comment "level 5, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @out6_5 comment "level 5, IPv6"
		iifname vmap @defaults comment "what a network lets its endpoints begin otherwise"
	}

	chain policy_in {
		comment "connections from outside"
		ip saddr . ip daddr . meta l4proto . th dport vmap @in4_1 comment "level 1, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @in6_1 comment "level 1, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @in4_2 comment "level 2, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @in6_2 comment "level 2, IPv6"
		ip saddr . ip daddr . meta l4proto . th dport vmap @in4_3 comment "level 3, IPv4"
		ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @in6_3 comment "level 3, IPv6"
	}

	chain policy_host {
		comment "connections that endpoints begin with the host itself"
		ip saddr . meta l4proto . th dport vmap @host4_1 comment "level 1, IPv4"
		ip6 saddr . meta l4proto . th dport vmap @host6_1 comment "level 1, IPv6"
		ip saddr . meta l4proto . th dport vmap @host4_2 comment "level 2, IPv4"
		ip6 saddr . meta l4proto . th dport vmap @host6_2 comment "level 2, IPv6"
		ip saddr . meta l4proto . th dport vmap @host4_3 comment "level 3, IPv4"
		ip6 saddr . meta l4proto . th dport vmap @host6_3 comment "level 3, IPv6"
	}

	chain strangers {
		comment "traffic that isn't ours"
		meta nfproto != @raised return comment "forwarding was on before us"
		iifname . oifname @same return comment "frames that stay on a bridge aren't forwarded"
		meta iifkind "bridge" iifname != @closed return comment "from a bridge that somebody made since: theirs to decide"
		meta oifkind "bridge" oifname != @closed ct state established,related return comment "answers to it"
		meta oifkind "bridge" oifname != @closed ct status dnat return comment "ports that they publish"
		counter drop comment "S13: we turned forwarding on, so the host stays no router for others"
	}

	chain guard {
		comment "what can't be true ends before conntrack"
		type filter hook prerouting priority raw; policy accept;
		iifname "lo" return comment "what the host tells itself"
		ip daddr 127.0.0.0/8 counter drop comment "S1: loopback addresses never come by wire"
		ip saddr 127.0.0.0/8 counter drop comment "S1: nor does anything sent from one"
		ip6 daddr ::1 counter drop comment "S1: nor to [::1] by way of br_netfilter"
		ip6 saddr ::1 counter drop comment "S1: nor from there"
		ip saddr @subnets4 iifname . ip saddr != @home4 counter drop comment "an endpoint's source address comes only from its own bridge"
		ip6 saddr @subnets6 iifname . ip6 saddr != @home6 counter drop comment "an endpoint's source address comes only from its own bridge"
	}

	chain publish_in {
		comment "published ports, for what comes in"
		type nat hook prerouting priority dstnat + 1; policy accept;
		fib daddr type != local return comment "S6: only what is meant for an address of the host itself"
		dnat ip to ip daddr . meta l4proto . th dport map @bound4 comment "ports published on one IPv4 address"
		meta nfproto ipv4 dnat ip to iifname . meta l4proto . th dport map @face4 comment "ports published on one interface"
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @publish4 comment "ports published on every address"
		meta nfproto ipv4 dnat ip to meta l4proto . th dport . numgen inc mod 60 map @turns4 comment "ports shared by several endpoints: each new connection goes to the next one"
		dnat ip to ip daddr . meta l4proto . th dport map @ranges4 comment "ranges: the address changes, the port stays"
		ip6 saddr fe80::/10 return comment "S20: link-local clients aren't forwarded: a proxy's work"
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6 comment "ports published on one IPv6 address"
		meta nfproto ipv6 dnat ip6 to iifname . meta l4proto . th dport map @face6 comment "ports published on one interface"
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @publish6 comment "ports published on every address"
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport . numgen inc mod 60 map @turns6 comment "ports shared by several endpoints: each new connection goes to the next one"
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ranges6 comment "ranges: the address changes, the port stays"
	}

	chain publish_out {
		comment "published ports, for what the host itself sends, to 127.0.0.1 too"
		type nat hook output priority -99; policy accept;
		fib daddr type != local return comment "S6: only what is meant for an address of the host itself"
		dnat ip to ip daddr . meta l4proto . th dport map @bound4 comment "ports published on one IPv4 address"
		dnat ip to ip daddr . meta l4proto . th dport map @own4 comment "ports published on one interface, by its addresses"
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @publish4 comment "ports published on every address"
		meta nfproto ipv4 dnat ip to meta l4proto . th dport . numgen inc mod 60 map @turns4 comment "ports shared by several endpoints: each new connection goes to the next one"
		dnat ip to ip daddr . meta l4proto . th dport map @ranges4 comment "ranges: the address changes, the port stays"
		ip6 daddr ::1 return comment "[::1] can't leave the host: a proxy's work"
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6 comment "ports published on one IPv6 address"
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @own6 comment "ports published on one interface, by its addresses"
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @publish6 comment "ports published on every address"
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport . numgen inc mod 60 map @turns6 comment "ports shared by several endpoints: each new connection goes to the next one"
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ranges6 comment "ranges: the address changes, the port stays"
	}

	chain gateway {
		comment "the gateways' own addresses"
		type filter hook input priority filter - 10; policy accept;
		ct state established,related return comment "what was let in before, and answers"
		iifname "lo" return comment "the host itself"
		ip daddr @subnets4 iifname . ip daddr != @home4 counter drop comment "S4: a gateway answers only its own network and the host"
		ip6 daddr @subnets6 iifname . ip6 daddr != @home6 counter drop comment "S4: a gateway answers only its own network and the host"
		iifname @bridges ct state new jump policy_host comment "what files say about the host's own services"
		iifname @internal ct state new counter drop comment "S10: a gateway is no bridge to the host's services"
	}

	chain forwarding {
		comment "what may pass between networks, before everybody's filter"
		type filter hook forward priority filter - 10; policy accept;
		iifname != @bridges oifname != @bridges goto strangers comment "neither from nor to us"
		jump admin comment "what the administrator says comes first"
		ct state established,related goto allow comment "answers, and errors about them"
		ct state invalid counter drop comment "S14: packets of no known connection"
		iifname . oifname @icc ct state untracked goto allow comment "neighbours finding one another"
		iifname @internal iifname . oifname != @icc counter drop comment "S10: no way out of an internal network"
		oifname @internal iifname . oifname != @icc counter drop comment "S10: no way into an internal network"
		iifname @bridges jump policy_out comment "what files say about connections that endpoints begin"
		iifname != @bridges jump policy_in comment "and about those from outside"
		iifname . oifname @icc goto allow comment "neighbours on one network"
		oifname @bridges ct status dnat goto allow comment "published ports"
		iifname . oifname @trusted goto allow comment "from a trusted interface"
		iifname . ip daddr != @home4 ip daddr . meta l4proto . th dport @routed4 goto allow comment "published, without NAT"
		iifname . ip daddr != @home4 oifname . meta nfproto @routed meta l4proto icmp goto allow comment "a routed network answers to ping"
		iifname . ip6 daddr != @home6 ip6 daddr . meta l4proto . th dport @routed6 goto allow comment "published, without NAT"
		iifname . ip6 daddr != @home6 oifname . meta nfproto @routed meta l4proto ipv6-icmp goto allow comment "a routed network answers to ping"
		iifname != @bridges oifname . meta nfproto @unprotected goto allow comment "gateway mode nat-unprotected"
		oifname @bridges counter drop comment "S3, S9: unpublished ports, and other networks"
		meta oifkind "bridge" accept comment "into somebody else's bridge: theirs to decide"
		goto allow comment "the way out"
	}

	chain sources {
		comment "whose address a packet leaves with"
		type nat hook postrouting priority srcnat; policy accept;
		oifname "lo" return comment "what the host tells itself, from a gateway's address say, stays so"
		oifname @bridges ip saddr 127.0.0.0/8 masquerade comment "127.0.0.1 of the host becomes the gateway's"
		oifname . ip saddr @home4 ct status dnat masquerade comment "hairpin: back to its own network by a published port"
		oifname != @bridges snat ip to ip saddr map @source4 comment "the way out, with the address chosen for the network"
		oifname != @bridges ip saddr @hidden4 masquerade comment "the way out, as the host itself"
		oifname . ip6 saddr @home6 ct status dnat masquerade comment "hairpin: back to its own network by a published port"
		oifname != @bridges snat ip6 to ip6 saddr map @source6 comment "the way out, with the address chosen for the network"
		oifname != @bridges ip6 saddr @hidden6 masquerade comment "the way out, as the host itself"
	}
}
END

# our table bridge nsbridge: nobody sends in another's name
rules <<'END'
table bridge nsbridge {
	comment "nsbridge"
	set guarded {
		type ifname
		comment "ports of bridges whose frames are checked"
	}

	set macs {
		type ifname . ether_addr
		comment "each port with its MAC"
	}

	set hosts4 {
		type ifname . ipv4_addr
		comment "each port with its IPv4 addresses"
	}

	set hosts6 {
		type ifname . ipv6_addr
		comment "each port with its IPv6 addresses"
	}

	set free4 {
		type ifname
		comment "ports that may send from any IPv4 address"
	}

	set free6 {
		type ifname
		comment "ports that may send from any IPv6 address"
	}

	set isolated {
		type ifname
		comment "ports of networks whose endpoints may not talk to one another"
	}

	chain senders {
		comment "nobody sends in another's name"
		type filter hook prerouting priority dstnat; policy accept;
		iifname != @guarded accept comment "not a port of ours, or one that may send anything"
		iifname . ether saddr != @macs counter drop comment "S16: another's MAC"
		meta protocol ip iifname . ip saddr @hosts4 accept comment "its own IPv4 address: nearly all it sends"
		meta protocol ip iifname @free4 accept comment "any IPv4 source"
		meta protocol arp iifname @free4 accept comment "any sender in ARP"
		meta protocol arp iifname . arp saddr ether != @macs counter drop comment "S16: another's MAC in ARP"
		meta protocol arp arp saddr ip 0.0.0.0 accept comment "is this address taken? (RFC 5227)"
		meta protocol arp iifname . arp saddr ip @hosts4 accept comment "its own address in ARP"
		meta protocol ip6 iifname @free6 accept comment "any IPv6 source"
		meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type nd-router-advert counter drop comment "S11: an endpoint is no router"
		meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type nd-redirect counter drop comment "S11: nor does it redirect"
		meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type nd-neighbor-advert iifname . icmpv6 taddr != @hosts6 counter drop comment "S16: advertises another's address"
		meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type nd-neighbor-solicit iifname . icmpv6 taddr @hosts6 accept comment "is my address taken?"
		meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type mld2-listener-report accept comment "which groups it listens to"
		meta protocol ip6 iifname . ip6 saddr @hosts6 accept comment "its own IPv6 address"
		iifname @free4 iifname @free6 accept comment "any address means any protocol"
		counter drop comment "S16: another's address, or a protocol that could carry one"
	}

	chain between {
		comment "from port to port"
		type filter hook forward priority 10; policy accept;
		iifname @isolated oifname @isolated meta mark & 0x04000000 != 0x04000000 counter drop comment "icc: false, but for published ports, which our mark tells"
	}
}
END

# S13: forwarding was off, so others are still not forwarded
nft add element inet nsbridge raised '{ ipv4 }'

# network 'ns_br'
nft add element inet nsbridge bridges '{ "ns_br" }'

# endpoints of network 'ns_br' may talk to one another
nft add element inet nsbridge icc '{ "ns_br" . "ns_br" }'

# network 'ns_br' has its subnet here
nft add element inet nsbridge home4 '{ "ns_br" . 175.18.0.0/24 }'

# subnet of network 'ns_br'
nft add element inet nsbridge subnets4 '{ 175.18.0.0/24 }'

# network 'ns_br' leaves with the host's address
nft add element inet nsbridge hidden4 '{ 175.18.0.0/24 }'

# 'ns1' on 'ns_br'; 'ns2' on 'ns_br'
nft add element bridge nsbridge guarded '{ "nsb89040893adad", "nsbe4abb46a9185" }'
nft add element bridge nsbridge macs '{ "nsb89040893adad" . 02:c4:6b:90:8f:49, "nsbe4abb46a9185" . 02:b0:4f:95:1a:6e }'
nft add element bridge nsbridge hosts4 '{ "nsb89040893adad" . 175.18.0.2, "nsbe4abb46a9185" . 175.18.0.3 }'

# 4. Cables ----------------------------------------------------------------------------------------
# A veth pair is a cable: one end in the bridge, the other in the namespace.

# port of 'ns1' on the bridge of 'ns_br'
ip link add name nsb89040893adad type veth peer name eth0 netns ns1
ip link set dev nsb89040893adad master ns_br mtu 1500 addrgenmode none up
bridge link set dev nsb89040893adad hairpin on

# the marks by which nsbridge knows it again
ip link set dev nsb89040893adad group $((0x6e000000 + $(ip -o link show dev ns_br | cut -d: -f1))) alias 'nsbridge: ns1 on ns_br'

# port of 'ns2' on the bridge of 'ns_br'
ip link add name nsbe4abb46a9185 type veth peer name eth0 netns ns2
ip link set dev nsbe4abb46a9185 master ns_br mtu 1500 addrgenmode none up
bridge link set dev nsbe4abb46a9185 hairpin on

# the marks by which nsbridge knows it again
ip link set dev nsbe4abb46a9185 group $((0x6e000000 + $(ip -o link show dev ns_br | cut -d: -f1))) alias 'nsbridge: ns2 on ns_br'

# 5. Inside the namespaces -------------------------------------------------------------------------
# Each gets its address, and the gateway as the way out.

# interface of 'ns1' on network 'ns_br'
ip -n ns1 link set dev eth0 address 02:c4:6b:90:8f:49 mtu 1500 addrgenmode none

# an IPv4 network: no autoconf floods the bridge
ip netns exec ns1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1

# all is set, so it is raised
ip -n ns1 link set dev eth0 up

# address of 'ns1' on 'ns_br'
ip -n ns1 address add 175.18.0.2/24 dev eth0

# the way out of 'ns_br'
ip -n ns1 route add default via 175.18.0.1 dev eth0 proto 110

# interface of 'ns2' on network 'ns_br'
ip -n ns2 link set dev eth0 address 02:b0:4f:95:1a:6e mtu 1500 addrgenmode none

# an IPv4 network: no autoconf floods the bridge
ip netns exec ns2 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1

# all is set, so it is raised
ip -n ns2 link set dev eth0 up

# address of 'ns2' on 'ns_br'
ip -n ns2 address add 175.18.0.3/24 dev eth0

# the way out of 'ns_br'
ip -n ns2 route add default via 175.18.0.1 dev eth0 proto 110

# 6. Forwarding ------------------------------------------------------------------------------------
# Only now does the host pass packets on; the rules above say which.

# packets have to pass between the bridge and the world
sysctl -qw net.ipv4.ip_forward=1

# published ports answer on 127.0.0.1 too; chain 'guard' keeps the wire out
sysctl -qw net.ipv4.conf.ns_br.route_localnet=1

# 7. Published ports -------------------------------------------------------------------------------
# Last, when everything behind them is complete: map elements that lead a port of the host inside.

# 0.0.0.0:8088->80/tcp of 'ns1'; 0.0.0.0:8089->80/tcp of 'ns2'
nft add element inet nsbridge publish4 '{ tcp . 8088 : 175.18.0.2 . 80, tcp . 8089 : 175.18.0.3 . 80 }'
