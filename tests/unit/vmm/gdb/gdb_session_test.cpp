// SPDX-License-Identifier: Apache-2.0
// What GDB 13 sends, and what it must get.
#include "vmm/gdb/session.hpp"

#include <regex>

#include "tests/catch.hpp"
#include "tests/fakes/gdb_target.hpp"
#include "vmm/base/hex.hpp"

namespace inox::gdb_session_test {

using namespace gdb;

namespace {

struct Client {
    tests::FakeGdbTarget target{};
    std::string sent{};
    unsigned detached{0};
    Session session{target,
                    {.send = [this](std::string_view text) { sent += text; }, .detached = [this] { ++detached; }}};

    void raw(std::string_view text) { session.receive(std::as_bytes(std::span{text})); }
    /// The texts of the packets that answer it, without acknowledgements.
    std::vector<std::string> all(std::string_view packet) {
        sent.clear();
        raw(frame(packet));
        return texts();
    }
    std::string ask(std::string_view packet) {
        const auto answers = all(packet);
        REQUIRE(answers.size() == 1);
        return answers[0];
    }
    [[nodiscard]] std::vector<std::string> texts() const {
        PacketReader reader;
        auto bytes = std::as_bytes(std::span{sent});
        std::vector<std::string> out;
        while (const auto event = reader.next(bytes))
            if (event->kind == PacketReader::Kind::packet)
                out.push_back(event->text);
        return out;
    }
};

std::string at(std::uint64_t address) { return format("%llx", hex(address)); }

constexpr auto base = tests::FakeGdbTarget::memory_at;

} // namespace

TEST_CASE("a client connects as GDB does") {
    Client client;
    const auto supported = client.ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+");
    CHECK(supported.find("PacketSize=4000") != std::string::npos);
    CHECK(supported.find("qXfer:features:read+") != std::string::npos);
    CHECK(client.ask("vMustReplyEmpty").empty());
    CHECK(client.ask("QStartNoAckMode") == "OK");
    CHECK(client.sent.front() == '+'); // the mode begins behind this packet
    CHECK(client.ask("Hg0") == "OK");
    CHECK(client.sent.front() == '$');
    CHECK(client.ask("?") == "T05thread:01;");
    CHECK(client.ask("qfThreadInfo") == "m01,02");
    CHECK(client.ask("qsThreadInfo") == "l");
    CHECK(client.ask("qAttached") == "1");
    CHECK(client.ask("qOffsets") == "Text=0;Data=0;Bss=0");
    client.target.offset = 0x1ee00000;
    CHECK(client.ask("qOffsets") == "Text=1ee00000;Data=1ee00000;Bss=1ee00000");
    CHECK(client.ask("qThreadExtraInfo,2") == to_hex("vCPU 1"));
    CHECK(client.ask("qSymbol::").empty());
}

TEST_CASE("the target description comes in pieces, and its registers are those of the packet g") {
    Client client;
    std::string text;
    for (std::string part = "m"; part.front() == 'm';) {
        part = client.ask(format("qXfer:features:read:target.xml:%zx,7b", text.size()));
        text += part.substr(1);
    }
    CHECK(text == target_description());
    std::size_t bits = 0;
    std::size_t count = 0;
    const std::regex size{"<reg name=\"[a-z0-9_]+\" bitsize=\"([0-9]+)\""};
    for (std::sregex_iterator i{text.begin(), text.end(), size}; i != std::sregex_iterator{}; ++i, ++count)
        bits += std::stoul((*i)[1]);
    CHECK(client.ask("g").size() == bits / 4);
    CHECK(client.ask(format("p%zx", count)) == "E01");
    CHECK(client.ask(format("p%zx", count - 1)).size() == 32);
}

TEST_CASE("registers of the chosen thread are read and written, one and all") {
    Client client;
    client.target.all[1].general.rax = 0x1122334455667788;
    client.target.all[1].general.rip = 0xffffffff81000042;
    CHECK(client.ask("Hg2") == "OK");
    CHECK(client.ask("p0") == "8877665544332211");
    CHECK(client.ask("p10") == "42000081ffffffff");
    CHECK(client.ask("P0=0100000000000000") == "OK");
    CHECK(client.target.all[1].general.rax == 1);
    CHECK(client.ask("P0=01") == "E01");
    CHECK(client.ask("P0=010000000000000x") == "E01");
    auto all = client.ask("g");
    all.replace(16, 16, "ff00000000000000"); // rbx
    CHECK(client.ask("G" + all) == "OK");
    CHECK(client.target.all[1].general.rbx == 255);
    CHECK(client.target.all[1].general.rax == 1);
    CHECK(client.target.all[0].general.rbx == 0);
    CHECK(client.ask("G00") == "E01");
    CHECK(client.ask("Hg3") == "E01");
    CHECK(client.ask("T2") == "OK");
    CHECK(client.ask("T3") == "E01");
}

TEST_CASE("memory is read up to its end and written whole, as text and as bytes") {
    Client client;
    CHECK(client.ask("M" + at(base) + ",3:aabbcc") == "OK");
    CHECK(client.ask("m" + at(base) + ",4") == "aabbcc00");
    CHECK(client.ask("m" + at(base + 254) + ",10") == "0000");
    CHECK(client.ask("m0,4") == "E0e");
    CHECK(client.ask("M" + at(base + 255) + ",2:aabb") == "E0e");
    CHECK(client.ask("M" + at(base) + ",2:aa") == "E01");
    CHECK(client.ask("X" + at(base) + ",4:#$}*") == "OK");
    CHECK(client.ask("m" + at(base) + ",4") == "23247d2a");
    CHECK(client.ask("X" + at(base) + ",0:") == "OK");
    CHECK(client.ask("m" + at(base) + ",ffffffffffffffff").size() == 512);
    CHECK(client.ask("m" + at(base)) == "E01");
}

TEST_CASE("breakpoints of all kinds but the one that x86 has not") {
    Client client;
    CHECK(client.ask("Z0,ffffffff81000000,1") == "OK");
    CHECK(client.ask("Z0,ffffffff81000000,1") == "OK");
    CHECK(client.ask("Z1,1000,1") == "OK");
    CHECK(client.ask("Z2,2000,8") == "OK");
    CHECK(client.ask("Z3,2000,8").empty());
    CHECK(client.ask("Z4,3000,4") == "OK");
    CHECK(client.ask("Z4,4000,4") == "E16");
    CHECK(client.ask("Z5,4000,4").empty());
    CHECK(client.target.breakpoints.size() == 4);
    CHECK(client.ask("z2,2000,8") == "OK");
    CHECK(client.ask("z2,2000,8") == "OK");
    CHECK(client.target.breakpoints.size() == 3);
    CHECK(client.ask("Z0") == "E01");
}

TEST_CASE("vCont says who runs and who steps; the answer is the next stop") {
    Client client;
    const auto go = [&](std::string_view packet) {
        CHECK(client.all(packet).empty());
        CHECK(client.session.running());
        const auto how = client.target.resumed.back();
        client.session.on_stop({1, Stop::Why::step, {}});
        CHECK(client.texts() == std::vector<std::string>{"T05thread:02;"});
        return how;
    };
    CHECK(client.ask("vCont?") == "vCont;c;C;s;S");
    auto how = go("vCont;c");
    CHECK((!how.only && !how.step));
    how = go("vCont;s:1;c");
    CHECK((!how.only && how.step == 0U));
    how = go("vCont;s:2");
    CHECK((how.only == 1U && how.step == 1U));
    how = go("vCont;c:1;c:2");
    CHECK((!how.only && !how.step));
    how = go("vCont;C05:1");
    CHECK((how.only == 0U && !how.step));
    how = go("s");
    CHECK((!how.only && how.step == 1U)); // the thread that stopped last
    go("c");
    CHECK(client.ask("vCont;x") == "E01");
    CHECK(client.ask("vCont;c:9") == "E01");
    CHECK_FALSE(client.session.running());
}

TEST_CASE("each stop is told as GDB tells them apart") {
    Client client;
    const auto told = [&](const Stop& stop) {
        client.all("c");
        client.session.on_stop(stop);
        return client.texts().at(0);
    };
    CHECK(told({0, Stop::Why::software, {}}) == "T05swbreak:;thread:01;");
    CHECK(told({1, Stop::Why::hardware, {}}) == "T05hwbreak:;thread:02;");
    CHECK(told({0, Stop::Why::watch, {Breakpoint::Kind::write, 0x2000, 8}}) == "T05watch:2000;thread:01;");
    CHECK(told({0, Stop::Why::watch, {Breakpoint::Kind::access, 0x2000, 8}}) == "T05awatch:2000;thread:01;");
    CHECK(told({1, Stop::Why::panic, {}}) == "T05thread:02;");
    CHECK(client.ask("?") == "T05thread:02;");
    CHECK(client.ask("qC") == "QC02");
}

TEST_CASE("while the guest runs only an interrupt counts") {
    Client client;
    client.all("c");
    CHECK(client.all("g").empty());
    client.sent.clear();
    client.raw("\3");
    CHECK(client.target.interrupts == 1);
    CHECK(client.texts() == std::vector<std::string>{"T02thread:01;"});
    client.sent.clear();
    client.raw("\3"); // it stands still
    CHECK(client.target.interrupts == 1);
    client.session.on_stop({0, Stop::Why::software, {}}); // came too late
    CHECK(client.sent.empty());
}

TEST_CASE("a bad packet is asked for again, and the last answer is repeated when asked for") {
    Client client;
    client.raw("$g#00");
    CHECK(client.sent == "-");
    const auto answer = client.ask("qC");
    client.sent.clear();
    client.raw("-");
    CHECK(client.sent == frame(answer));
}

TEST_CASE("monitor commands answer in lines, however long they are") {
    Client client;
    auto answers = client.all("qRcmd," + to_hex("devices"));
    REQUIRE(answers.size() == 2);
    CHECK(answers[0] == "O" + to_hex("you said devices\n"));
    CHECK(answers[1] == "OK");
    CHECK(client.ask("qRcmd,0x") == "E01");
}

TEST_CASE("a client leaves, kills, or sees the guest's end") {
    Client client;
    CHECK(client.ask("D") == "OK");
    CHECK(client.detached == 1);
    CHECK(client.all("g").empty());

    Client killer;
    killer.all("k");
    CHECK(killer.target.kills == 1);

    Client other;
    other.all("c");
    other.session.on_end();
    CHECK(other.texts() == std::vector<std::string>{"W00"});
}

} // namespace inox::gdb_session_test
