{
  "targets": [
    {
      "target_name": "tortie",
      "sources": [
        "dataplane/native/addon.c",
        "dataplane/native/args.c",
        "dataplane/native/burst.c",
        "dataplane/native/poll.c",
        "dataplane/native/socket.c",
        "dataplane/native/tap.c"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    }
  ]
}
