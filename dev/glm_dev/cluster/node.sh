#!/usr/bin/env bash
# Process 1 of one node, in mount, process, network, host-name and IPC namespaces of its own.
# Killing it ends everything the node runs and removes its mounts and its network: that is both
# the teardown and a machine that is lost. What it is told comes from node_config.environment().
set -euo pipefail

private_disks() {
  mount --make-rshared / # the kubelet's mounts must reach containerd and the pods
  mount --bind "$NODE_DIR/lib" /var/lib
  mount --bind "$NODE_DIR/log" /var/log
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /var/lib/kubelet /var/log/pods /run/containerd
}

# The kubelet writes these for the whole kernel. It finds them set already, in files of the node,
# so the machine keeps its own.
private_sysctls() {
  while read -r file value; do
    mkdir -p "/run/sysctl/${file%/*}"
    echo "$value" >"/run/sysctl/$file"
    mount --bind "/run/sysctl/$file" "/proc/sys/$file"
  done <<EOS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
EOS
}

# The kubelet has no setting for a machine bigger than the real one; it reads these files.
pretended_size() {
  sed "s/^MemTotal:.*/MemTotal: $MEMORY_KIB kB/" /proc/meminfo >/run/meminfo
  mount --bind /run/meminfo /proc/meminfo
  mount -t tmpfs tmpfs /sys/devices/system/node
  mount -t tmpfs tmpfs /sys/devices/system/cpu
  local cpu=/sys/devices/system/cpu
  echo "0-$((CPUS - 1))" | tee $cpu/online $cpu/present >$cpu/possible
  # Without topology files: with them the kubelet writes these numbers into the real cpuset.
  for ((i = 0; i < CPUS; i++)); do mkdir "$cpu/cpu$i"; done
}

network() {
  hostname "$NODE_NAME"
  for ((i = 0; i < 200; i++)); do [ -d /proc/sys/net/ipv4/conf/eth0 ] && break; sleep 0.05; done
  ip link set lo up
  ip addr add "$NODE_ADDRESS" dev eth0
  ip link set eth0 up
  ip route add unreachable default # nothing leaves the machine
  ip route add "$CLUSTER_CIDR" via "$CONTROL_PLANE"
  while read -r pods node; do [ -z "$pods" ] || ip route add "$pods" via "$node" dev eth0; done <<<"$POD_ROUTES"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  # Pods of one node meet on its bridge: without this their traffic skips the Service rules.
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
}

run() {
  local name=$1
  shift
  "$@" >>"/var/log/$name.log" 2>&1 </dev/null &
  echo $! >"/run/$name.pid"
}

private_disks
private_sysctls
pretended_size
network
run containerd "$CONTAINERD" -c "$NODE_DIR/etc/containerd.toml"
for ((i = 0; i < 400; i++)); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.05; done
until [ -e "$NODE_DIR/etc/api-ready" ]; do sleep 0.1; done # a kubelet that starts sooner backs off
run kube-proxy "$KUBE_PROXY" --config="$NODE_DIR/etc/kube-proxy.yaml"
[ -z "$DEVICE_PLUGIN" ] || run device-plugin sh -c "exec $DEVICE_PLUGIN"
run kubelet-start sh "$NODE_DIR/etc/kubelet.sh"
while :; do sleep 3600 & wait $! || true; done
