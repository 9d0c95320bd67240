{
  "targets": [
    {
      "target_name": "tortie",
      "sources": [
        "dataplane/native/addon.c",
        "dataplane/native/bpf.c",
        "dataplane/native/burst.c",
        "dataplane/native/capabilities.c",
        "dataplane/native/checksum.c",
        "dataplane/native/datagram.c",
        "dataplane/native/epoll.c",
        "dataplane/native/error.c",
        "dataplane/native/link.c",
        "dataplane/native/netlink.c",
        "dataplane/native/netns.c",
        "dataplane/native/socket.c",
        "dataplane/native/spread.c",
        "dataplane/native/tap.c",
        "dataplane/native/tcp.c",
        "dataplane/native/unix.c",
        "dataplane/native/value.c",
        "dataplane/native/watch.c"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags!": ["-O3"],
      "cflags": ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "configurations": {
        "Debug": {
          "cflags!": ["-O0"],
          "cflags": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
          "ldflags": ["-fsanitize=address,undefined"]
        }
      }
    },
    {
      "target_name": "tortie-cni",
      "type": "executable",
      "sources": ["control/cni/native/tortie-cni.c"],
      "cflags!": ["-O3"],
      "cflags": ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"],
      "configurations": {
        "Release": {
          # Where the linker can: of any C library, since it is installed where the runtime looks, and quicker to start.
          "ldflags": ["<!@(echo 'int main(void){return 0;}' | ${CC:-cc} -x c - -static -o /dev/null 2>/dev/null && echo -static || true)"]
        },
        "Debug": {
          "cflags!": ["-O0"],
          "cflags": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
          "ldflags": ["-fsanitize=address,undefined"]
        }
      }
    }
  ]
}
