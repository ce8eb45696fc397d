// SPDX-License-Identifier: Apache-2.0
// Bytes of a debugger's connection: whatever comes, answers stay in proportion and the session goes on.
#include "tests/fakes/gdb_target.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/gdb/session.hpp"

using namespace inox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    tests::FakeGdbTarget target;
    std::size_t sent = 0;
    bool over = false;
    gdb::Session session{target,
                         {.send =
                              [&](std::string_view text) {
                                  fuzz::require(!over);
                                  sent += text.size();
                              },
                          .detached = [&] { over = true; }}};
    std::size_t at = 0;
    while (at < size) {
        const auto part = std::min<std::size_t>(size - at, 1 + data[at] % 64);
        session.receive(std::as_bytes(std::span{data + at, part}));
        at += part;
        if (session.running() && data[at - 1] % 3 == 0)
            session.on_stop({data[at - 1] % 2U, gdb::Stop::Why::software, {}});
    }
    // Four bytes ("$g#67") ask for all registers, two ("-") for the last answer again.
    fuzz::require(sent <= (size + 1) * (gdb::longest_packet + 16));
    fuzz::require(target.breakpoints.size() <= 4);
    return 0;
}
