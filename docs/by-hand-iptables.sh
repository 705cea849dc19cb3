#!/bin/sh
# Project docker-bridge
#
# It builds by hand what nsbridge builds, in the order in which one would explain it.
# Written by nsbridge for a host like the one it was asked on: its uplink, its settings and its firewall. To be run as
# root, with iproute2, procps, nftables and iptables.
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
# Chains of ours decide what may pass between the bridges and the world. They hang in mangle, not filter:
# what is dropped there, nobody else's rule can accept. Frames between the ports of a bridge are for nft to check:
# iptables never sees them. Nothing is plugged in yet, so there is no moment without all this.

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

# 'ns1' on 'ns_br'; 'ns2' on 'ns_br'
nft add element bridge nsbridge guarded '{ "nsb89040893adad", "nsbe4abb46a9185" }'
nft add element bridge nsbridge macs '{ "nsb89040893adad" . 02:c4:6b:90:8f:49, "nsbe4abb46a9185" . 02:b0:4f:95:1a:6e }'
nft add element bridge nsbridge hosts4 '{ "nsb89040893adad" . 175.18.0.2, "nsbe4abb46a9185" . 175.18.0.3 }'

# what can't be true ends before conntrack
iptables -w -t raw -N NSB-guard
iptables -w -t raw -N NSB-guard-2

# what the host tells itself
iptables -w -t raw -A NSB-guard -i lo -j RETURN

# S1: loopback addresses never come by wire
iptables -w -t raw -A NSB-guard -d 127.0.0.0/8 -j DROP

# S1: nor does anything sent from one
iptables -w -t raw -A NSB-guard -s 127.0.0.0/8 -j DROP

# subnet of network 'ns_br'
iptables -w -t raw -A NSB-guard -s 175.18.0.0/24 -g NSB-guard-2

# network 'ns_br' has its subnet here
iptables -w -t raw -A NSB-guard-2 -i ns_br -s 175.18.0.0/24 -j RETURN

# an endpoint's source address comes only from its own bridge
iptables -w -t raw -A NSB-guard-2 -j DROP

# from now on, PREROUTING asks these
iptables -w -t raw -I PREROUTING -j NSB-guard

# published ports, for what comes in
iptables -w -t nat -N NSB-publish_in

# S6: only what is meant for an address of the host itself
iptables -w -t nat -A NSB-publish_in -m addrtype ! --dst-type LOCAL -j RETURN

# from now on, PREROUTING asks these
iptables -w -t nat -I PREROUTING -j NSB-publish_in

# published ports, for what the host itself sends, to 127.0.0.1 too
iptables -w -t nat -N NSB-publish_out

# S6: only what is meant for an address of the host itself
iptables -w -t nat -A NSB-publish_out -m addrtype ! --dst-type LOCAL -j RETURN

# from now on, OUTPUT asks these
iptables -w -t nat -I OUTPUT -j NSB-publish_out

# the gateways' own addresses
iptables -w -t mangle -N NSB-gateway
iptables -w -t mangle -N NSB-gateway-2

# what was let in before, and answers
iptables -w -t mangle -A NSB-gateway -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN

# the host itself
iptables -w -t mangle -A NSB-gateway -i lo -j RETURN

# subnet of network 'ns_br'
iptables -w -t mangle -A NSB-gateway -d 175.18.0.0/24 -j NSB-gateway-2

# network 'ns_br' has its subnet here
iptables -w -t mangle -A NSB-gateway-2 -i ns_br -d 175.18.0.0/24 -j RETURN

# S4: a gateway answers only its own network and the host
iptables -w -t mangle -A NSB-gateway-2 -j DROP

# from now on, INPUT asks these
iptables -w -t mangle -I INPUT -j NSB-gateway

# what may pass between networks, before everybody's filter
iptables -w -t mangle -N NSB-forwarding
iptables -w -t mangle -N NSB-forwarding-2
iptables -w -t mangle -N NSB-allow

# undecided yet
iptables -w -t mangle -A NSB-forwarding -m mark ! --mark 0x0/0xc000000 -j MARK --set-xmark 0x0/0xc000000

# network 'ns_br'
iptables -w -t mangle -A NSB-forwarding -i ns_br -g NSB-forwarding-2
iptables -w -t mangle -A NSB-forwarding -o ns_br -g NSB-forwarding-2

# S13: we turned forwarding on, so the host stays no router for others
iptables -w -t mangle -A NSB-forwarding -j DROP

# answers, and errors about them
iptables -w -t mangle -A NSB-forwarding-2 -m conntrack --ctstate ESTABLISHED,RELATED -g NSB-allow

# S14: packets of no known connection
iptables -w -t mangle -A NSB-forwarding-2 -m conntrack --ctstate INVALID -j DROP

# neighbours finding one another
iptables -w -t mangle -A NSB-forwarding-2 -m conntrack --ctstate UNTRACKED -i ns_br -o ns_br -g NSB-allow

# neighbours on one network
iptables -w -t mangle -A NSB-forwarding-2 -i ns_br -o ns_br -g NSB-allow

# published ports
iptables -w -t mangle -A NSB-forwarding-2 -m conntrack --ctstate DNAT -o ns_br -g NSB-allow

# S3, S9: unpublished ports, and other networks
iptables -w -t mangle -A NSB-forwarding-2 -o ns_br -j DROP

# the way out
iptables -w -t mangle -A NSB-forwarding-2 -g NSB-allow

# marked, so that a foreign chain that drops can let it pass
iptables -w -t mangle -A NSB-allow -j MARK --set-xmark 0x4000000/0x4000000

# from now on, FORWARD asks these
iptables -w -t mangle -I FORWARD -j NSB-forwarding

# whose address a packet leaves with
iptables -w -t nat -N NSB-sources

# what the host tells itself, from a gateway's address say, stays so
iptables -w -t nat -A NSB-sources -o lo -j RETURN

# 127.0.0.1 of the host becomes the gateway's
iptables -w -t nat -A NSB-sources -s 127.0.0.0/8 -o ns_br -j MASQUERADE

# hairpin: back to its own network by a published port
iptables -w -t nat -A NSB-sources -m conntrack --ctstate DNAT -o ns_br -s 175.18.0.0/24 -j MASQUERADE

# network 'ns_br'
iptables -w -t nat -A NSB-sources -o ns_br -j RETURN

# the way out, as the host itself
iptables -w -t nat -A NSB-sources -s 175.18.0.0/24 -j MASQUERADE

# from now on, POSTROUTING asks these
iptables -w -t nat -I POSTROUTING -j NSB-sources

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
# Last, when everything behind them is complete: rules that lead a port of the host inside.

# 0.0.0.0:8088->80/tcp of 'ns1'
iptables -w -t nat -A NSB-publish_in -p tcp -m tcp --dport 8088 -j DNAT --to-destination 175.18.0.2:80

# 0.0.0.0:8089->80/tcp of 'ns2'
iptables -w -t nat -A NSB-publish_in -p tcp -m tcp --dport 8089 -j DNAT --to-destination 175.18.0.3:80

# 0.0.0.0:8088->80/tcp of 'ns1'
iptables -w -t nat -A NSB-publish_out -p tcp -m tcp --dport 8088 -j DNAT --to-destination 175.18.0.2:80

# 0.0.0.0:8089->80/tcp of 'ns2'
iptables -w -t nat -A NSB-publish_out -p tcp -m tcp --dport 8089 -j DNAT --to-destination 175.18.0.3:80
