// SPDX-License-Identifier: Apache-2.0
// passt as a child process: what it is asked, how it ends, how often it is started. The program is a script of the
// test's.
#include "devices/virtio/net/passt.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "devices/virtio/net/net.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/taken_port.hpp"

namespace inox::virtio_net_user_test {

using namespace inox::devices::virtio;
using namespace std::chrono_literals;
using tests::run_until;

namespace {

struct Folder {
    std::string name{"/tmp/inox-passt.XXXXXX"};

    Folder() { REQUIRE(::mkdtemp(name.data())); }
    ~Folder() { std::filesystem::remove_all(name); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::string path(const char* file) const { return name + "/" + file; }
};

/// A program that stands in for passt.
struct Script {
    Folder folder{};
    std::string program = folder.path("passt");

    explicit Script(const std::string& body) {
        std::ofstream{program} << "#!/bin/sh\n" << body << '\n';
        REQUIRE(::chmod(program.c_str(), 0755) == 0);
    }
    [[nodiscard]] Passt::Host host() const {
        return {program, folder.path("uid_map"), folder.path("resolv.conf"), folder.path("real")};
    }
    void write(const char* name, const std::string& text) const { std::ofstream{folder.path(name)} << text; }
    [[nodiscard]] std::string words(const NetOptions& options) const {
        std::string all;
        for (const auto& word : Passt{options, host()}.words("passt"))
            all += word + " ";
        return all;
    }
};

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Result<std::shared_ptr<Net>> start(const Script& script, EventLoop& loop, NetOptions options = {}) {
    options.user = true;
    options.retry = 2ms;
    return Net::create(options, loop, std::make_unique<StreamPort>(std::make_unique<Passt>(options, script.host())), {},
                       10s);
}

// Answers whoever asks, then ends with the connection.
constexpr const char* serving = "printf '\\0\\0\\0\\1x' >&3\nexec cat <&3 >/dev/null";

} // namespace

TEST_CASE("forwards are read and written in one form") {
    const auto text = [](std::string_view given) {
        const auto forward = PortForward::parse(given);
        return forward ? forward->text() : "";
    };
    CHECK(text("2222:22") == "tcp:127.0.0.1:2222:22");
    CHECK(text("tcp:2222:22") == "tcp:127.0.0.1:2222:22");
    CHECK(text("udp:5353:53") == "udp:127.0.0.1:5353:53");
    CHECK(text("0.0.0.0:80:8080") == "tcp:0.0.0.0:80:8080");
    CHECK(text("udp:[::1]:1:65535") == "udp:[::1]:1:65535");
    CHECK(text("tcp:127.0.0.1:2222:22") == "tcp:127.0.0.1:2222:22");
    for (const char* bad :
         {"",     "22",          ":22",       "22:",           "0:22",          "22:0",         "65536:1",  "1:65536",
          "a:b",  "22:22:22",    "1.2.3:1:2", "::1:1:2",       "[::1:1:2",      "[]:1:2",       "sctp:1:2", "1:2 ",
          "+1:2", "tcp:udp:1:2", "-1:2",      "1.2.3.4/5:1:2", "[1.2.3.4]:1:2", "localhost:1:2"})
        CHECK(text(bad).empty());
}

TEST_CASE("passt gets the options of the interface") {
    const Script script{""};
    const auto plain = script.words({.user = true});
    CHECK(contains(plain, "passt --foreground --fd 3 --quiet --stderr --mtu 65520 "));
    CHECK(contains(plain, " --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 "));
    CHECK(contains(plain, " --address fd69:6e6f:7800::15 --gateway fd69:6e6f:7800::2 "));
    CHECK(contains(plain, " --no-map-gw "));
    CHECK(contains(plain, " --tcp-ports none --udp-ports none "));
    CHECK_FALSE(contains(plain, "--runas"));
    CHECK_FALSE(contains(plain, "--dns"));
    NetOptions all{.user = true, .host = true, .dns = "192.0.2.53", .mtu = 1400};
    for (const char* one : {"2222:22", "[::1]:8080:80", "udp:0.0.0.0:5353:53"})
        all.forwards.push_back(*PortForward::parse(one));
    const auto full = script.words(all);
    CHECK_FALSE(contains(full, "--no-map-gw"));
    CHECK(contains(full, " --mtu 1400 "));
    CHECK(contains(full, " --dns 192.0.2.53 "));
    CHECK(contains(full, " --tcp-ports 127.0.0.1/2222:22 --tcp-ports ::1/8080:80 --udp-ports 0.0.0.0/5353:53 "));
}

TEST_CASE("a name server at the host's loopback is replaced by those behind it") {
    const Script script{""};
    script.write("resolv.conf", "# comment\nnameserver 127.0.0.53\noptions edns0\n");
    CHECK_FALSE(contains(script.words({.user = true}), "--dns"));
    script.write("real", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n");
    CHECK(contains(script.words({.user = true}), " --dns 192.0.2.1 --dns 2001:db8::1 "));
    CHECK_FALSE(contains(script.words({.user = true, .host = true}), "--dns"));
    script.write("resolv.conf", "nameserver 192.0.2.9\n");
    CHECK_FALSE(contains(script.words({.user = true}), "--dns"));
}

TEST_CASE("root of the whole machine lets passt be nobody by number, root of a user namespace does not") {
    if (::geteuid() != 0)
        return;
    const Script script{""};
    script.write("uid_map", "         0          0 4294967295\n");
    CHECK(contains(script.words({.user = true}), " --runas 65534:65534 "));
    script.write("uid_map", "         0       1000          1\n");
    CHECK_FALSE(contains(script.words({.user = true}), "--runas"));
}

TEST_CASE("a missing passt is named with the package that has it") {
    EventLoop loop;
    Script script{""};
    ::unlink(script.program.c_str());
    const auto net = start(script, loop);
    REQUIRE_FALSE(net);
    CHECK(net.error().code == Errc::host_error);
    CHECK(contains(net.error().hint, "apt install passt"));
}

TEST_CASE("what passt says when it refuses is in the error, without what a terminal acts on") {
    EventLoop loop;
    const Script script{"echo 'Failed to send 5 bytes to syslog' >&2\n"
                        "printf \"Don't run as root. Changing to nobody...\\n\" >&2\n"
                        "printf \"Failed to bind any port for '-t 22:22', \\033[31mexiting\\n\" >&2\nexit 1"};
    const auto net = start(script, loop);
    REQUIRE_FALSE(net);
    CHECK(net.error().what == "passt, which connects the guest to the user's network, ended with status 1: "
                              "Failed to bind any port for '-t 22:22', ?[31mexiting");
    CHECK(contains(net.error().hint, "another port"));
}

TEST_CASE("a forward of a port in use is refused before passt is started") {
    EventLoop loop;
    const Script script{"touch \"$0.started\"\n" + std::string{serving}};
    const tests::TakenPort taken;
    NetOptions options{};
    options.forwards.push_back({.host = ntohs(taken.address.sin_port), .guest = 22});
    const auto net = start(script, loop, options);
    REQUIRE_FALSE(net);
    CHECK(net.error().code == Errc::host_error);
    CHECK(contains(net.error().what, "cannot forward " + options.forwards[0].text()));
    CHECK(contains(net.error().hint, "another port"));
    CHECK_FALSE(std::filesystem::exists(script.program + ".started"));
}

TEST_CASE("on a host without a way out passt is started again with what is left") {
    EventLoop loop;
    const Script script{
        "case \"$*\" in *'--interface lo --ipv4-only'*) ;; *) echo 'External interface not usable' >&2; "
        "exit 1;; esac\n" +
        std::string{serving}};
    const tests::LogCapture log;
    const auto net = start(script, loop);
    REQUIRE(net);
    CHECK(contains(log.text(), "no default route"));
    CHECK((*net)->link_up());
}

TEST_CASE("a passt that finds no way out only after its device was shown is started again, too") {
    EventLoop loop;
    const Script script{"case \"$*\" in *'--interface lo --ipv4-only'*) ;; *) sleep 0.2; "
                        "echo 'External interface not usable' >&2; exit 1;; esac\n" +
                        std::string{serving}};
    NetOptions options{.user = true};
    options.retry = 2ms;
    const auto net = *Net::create(
        options, loop, std::make_unique<StreamPort>(std::make_unique<Passt>(options, script.host())), {}, 1ms);
    fakes::VirtioDriver driver{};
    driver.activate(*net, net->features() & ~net_feature::guest_offloads);
    driver[0].chain().writable(1526).post();
    const tests::LogCapture log;
    CHECK(run_until(loop, [&] { return net->traffic().losses == 1 && net->link_up(); }));
    CHECK(contains(log.text(), "no default route"));
    tests::run_for(loop, 300ms);
    CHECK(net->traffic().losses == 1);
    net->reset();
}

TEST_CASE("passt ends when the device does, and is killed when it does not see the end") {
    for (const std::string body : {serving, "printf '\\0\\0\\0\\1x' >&3\ntrap '' HUP TERM PIPE\nexec sleep 60"}) {
        EventLoop loop;
        const Script script{"echo $$ >" + std::string{"$(dirname $0)/pid\n"} + body};
        auto net = start(script, loop);
        REQUIRE(net);
        pid_t pid = 0;
        std::ifstream{script.folder.path("pid")} >> pid;
        REQUIRE(pid > 0);
        CHECK(::kill(pid, 0) == 0);
        const auto before = std::chrono::steady_clock::now();
        net->reset();
        CHECK(std::chrono::steady_clock::now() - before < 5s);
        CHECK(::kill(pid, 0) != 0); // neither alive nor a zombie
    }
}

TEST_CASE("a passt that dies takes the link down, is started again, and not for ever") {
    EventLoop loop;
    // It serves at the first start only.
    const Script script{"n=$(dirname $0)/n; echo x >>$n\n[ $(wc -l <$n) -gt 1 ] || printf '\\0\\0\\0\\1x' >&3\n"
                        "echo \"this is $(wc -l <$n)\" >&2\nread -r line <&3; exit 3"};
    fakes::VirtioDriver driver{};
    const auto net = *start(script, loop);
    driver.activate(*net, net->features() & ~net_feature::guest_offloads);
    for (int i = 0; i < 16; ++i)
        driver[0].chain().writable(1526).post();
    const tests::LogCapture log;
    // A frame is a line to it.
    const auto send = [&] {
        driver[1].chain().readable(NetHeader{}).readable(std::string(60, '\n')).post();
        net->kick(1);
    };
    CHECK(run_until(
        loop,
        [&] {
            send();
            while (driver[1].used())
                ;
            return contains(log.text(), "starts it again in a minute");
        },
        30s));
    CHECK_FALSE(net->link_up());
    const auto starts = [&] {
        std::ifstream file{script.folder.path("n")};
        return std::count(std::istreambuf_iterator<char>{file}, {}, '\n');
    };
    const auto before = starts();
    CHECK(before <= 2 + Passt::most_in_a_row);
    tests::run_for(loop, 100ms);
    CHECK(starts() == before);
    CHECK(contains(log.text(), "passt is gone (ended with status 3: this is 1)"));
    net->reset();
}

} // namespace inox::virtio_net_user_test
