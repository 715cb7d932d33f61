#!/bin/sh
# The first and only program of the guest. Its answer goes to the second serial line, the kernel's words to the first.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>/dev/ttyS0

# disk SERIAL: the block device of a drive
disk() {
    grep -lx "$1" /sys/block/*/serial | cut -d/ -f4
}

# theirs TEST...: names of the files in the current folder that a person put there
theirs() {
    find . -mindepth 1 \( -path ./lost+found -o -path ./.vdisk \) -prune -o "$@" -print0
}

# facts FOLDER: all that can be known of the files in it
facts() {
    cd "$1" || return 1
    echo "-- stat"
    theirs -mindepth 1 | xargs -0 stat -c '%f %u %g %h %i %y %n'
    echo "-- links"
    theirs -type l | xargs -0 -r stat -c %N
    echo "-- content"
    theirs -type f | xargs -0 -r sha256sum
    echo "-- seen"
    cd /
}

# visit SERIAL PLACE MOUNT-COMMAND...: look at all of a filesystem and leave something on it
# PLACE is "disk" or the number of a partition; ":KEY-FILE" behind it opens encryption there
visit() {
    local name=$1 place=$2 device
    shift 2
    device=/dev/$(disk "$name")
    [ "${place%%:*}" = disk ] || device=$device${place%%:*}
    echo "== $name"
    case $place in
    *:*)
        cryptsetup open --key-file "/${place#*:}" "$device" "$name" || { echo "-- failed open"; return; }
        device=/dev/mapper/$name
        ;;
    esac
    mkdir -p "/mnt/$name"
    if "$@" "$device" "/mnt/$name"; then
        facts "/mnt/$name" || echo "-- failed facts"
        { mkdir "/mnt/$name/guest" && seq 100000 >"/mnt/$name/guest/numbers" && sync; } || echo "-- failed write"
        umount "/mnt/$name" || echo "-- failed umount"
    else
        echo "-- failed mount"
    fi
    case $place in *:*) cryptsetup close "$name" || echo "-- failed close" ;; esac
    echo "-- left"
}

for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "-- failed insmod $module"
done
. /job
echo "== END"
sync
poweroff -f
