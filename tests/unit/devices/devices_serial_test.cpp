// SPDX-License-Identifier: Apache-2.0
#include "devices/serial.hpp"

#include <random>
#include <string>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_serial_test {

using tests::in;
using tests::out;

namespace {

struct Write {
    std::uint64_t reg;
    std::uint8_t value;
};

enum : std::uint64_t { rbr = 0, thr = 0, ier = 1, iir = 2, fcr = 2, lcr = 3, mcr = 4, lsr = 5, msr = 6, scr = 7 };

struct Line {
    std::shared_ptr<fakes::FakeIrqLine::State> irq{std::make_shared<fakes::FakeIrqLine::State>()};
    std::string sent{};
    unsigned room_calls{};
    devices::Serial uart{std::make_unique<fakes::FakeIrqLine>(irq), [this](std::span<const std::byte> bytes) {
                             for (const auto byte : bytes)
                                 sent.push_back(static_cast<char>(byte));
                         }};

    Line() {
        uart.on_input_room([this] { ++room_calls; });
    }
    std::size_t receive(std::string_view text) { return uart.receive(std::as_bytes(std::span{text})); }
    std::string drain() {
        std::string text;
        while (in(uart, lsr) & 1)
            text.push_back(static_cast<char>(in(uart, rbr)));
        return text;
    }
    /// What Linux does at the last close. With HUPCL, the default, it lowers RTS and DTR first.
    void close(bool hang_up) {
        if (hang_up)
            out(uart, mcr, 0x08);
        out(uart, ier, 0);
        out(uart, mcr, static_cast<std::uint8_t>(hang_up ? 0x00 : 0x03));
        out(uart, fcr, 0x01);
        out(uart, fcr, 0x07);
        out(uart, fcr, 0x00);
        in(uart, rbr);
    }
    /// What Linux's 8250 driver does at open.
    void open() {
        out(uart, fcr, 0x01);
        out(uart, fcr, 0x07);
        out(uart, fcr, 0x00);
        in(uart, lsr), in(uart, rbr), in(uart, iir), in(uart, msr);
        out(uart, lcr, 0x03);
        out(uart, mcr, 0x08);
        out(uart, ier, 0x05);
        out(uart, fcr, 0x81);
        out(uart, mcr, 0x0b);
        irq->take();
    }
};

} // namespace

TEST_CASE("Linux's autoconfig sequence finds a 16550A and none of its cousins") {
    Line line;
    auto& uart = line.uart;
    const auto saved_ier = in(uart, ier);
    out(uart, ier, 0);
    CHECK((in(uart, ier) & 0x0f) == 0);
    out(uart, ier, 0x0f);
    CHECK((in(uart, ier) & 0x0f) == 0x0f);
    out(uart, ier, saved_ier);

    const auto saved_mcr = in(uart, mcr);
    out(uart, mcr, 0x10 | 0x0a); // loop back, OUT2 and RTS
    CHECK((in(uart, msr) & 0xf0) == 0x90);
    out(uart, mcr, saved_mcr);

    out(uart, lcr, 0xbf); // extended registers of other chips
    out(uart, iir, 0);
    out(uart, lcr, 0);
    out(uart, fcr, 0x01);
    CHECK(in(uart, iir) >> 6 == 3);

    out(uart, lcr, 0x80); // 16650: the extended feature register would read 0
    CHECK(in(uart, iir) != 0);
    out(uart, lcr, 0xbf);
    CHECK(in(uart, iir) != 0);
    out(uart, lcr, 0);
    out(uart, fcr, 0x21); // 16750: 64-byte FIFO
    CHECK(in(uart, iir) >> 5 == 6);
    out(uart, fcr, 0x01);
    out(uart, ier, 0x10); // XScale: the unit enable bit would stick
    CHECK((in(uart, ier) & 0x10) == 0);
    out(uart, ier, 0);

    out(uart, scr, 0xa5);
    CHECK(in(uart, scr) == 0xa5);
}

TEST_CASE("enabling the transmit interrupt on an idle line raises it, and reading its id clears it") {
    Line line;
    auto& uart = line.uart;
    for (int round = 0; round < 2; ++round) { // Linux's test for chips that do not raise it again
        out(uart, ier, 0x02);
        CHECK(line.irq->take() == 1);
        CHECK((in(uart, lsr) & 0x60) == 0x60);
        CHECK(in(uart, iir) == 0x02);
        CHECK(in(uart, iir) == 0x01);
        out(uart, ier, 0);
    }
    out(uart, ier, 0x02);
    out(uart, ier, 0);
    CHECK(in(uart, iir) == 0x01);
}

TEST_CASE("an interrupt-driven transmitter gets an interrupt after each burst") {
    Line line;
    auto& uart = line.uart;
    line.open();
    out(uart, ier, 0x07);
    std::string expected;
    for (int burst = 0; burst < 4; ++burst) {
        CHECK(line.irq->take() == 1);
        CHECK(in(uart, iir) == 0xc2);
        for (int i = 0; i < 16; ++i) {
            out(uart, thr, static_cast<std::uint8_t>('a' + i));
            expected.push_back(static_cast<char>('a' + i));
        }
    }
    CHECK(line.sent == expected);
}

TEST_CASE("a transmitter that looks only at the line status gets an interrupt for each byte") {
    Line line;
    out(line.uart, ier, 0x02);
    for (int i = 0; i < 5; ++i) {
        CHECK(line.irq->take() == 1);
        CHECK((in(line.uart, lsr) & 0x20) != 0);
        out(line.uart, thr, 'x');
    }
    CHECK(line.sent == "xxxxx");
}

TEST_CASE("a polled transmitter never interrupts") {
    Line line;
    for (const char c : std::string_view{"hello"})
        out(line.uart, thr, static_cast<std::uint8_t>(c));
    CHECK(line.sent == "hello");
    CHECK(line.irq->take() == 0);
}

TEST_CASE("received bytes interrupt once until the FIFO is empty") {
    Line line;
    line.open();
    CHECK(line.receive("ls\n") == 3);
    CHECK(line.receive("x") == 1);
    CHECK(line.irq->take() == 1);
    CHECK(in(line.uart, iir) == 0xcc); // below the trigger level: time-out
    CHECK(line.drain() == "ls\nx");
    CHECK(in(line.uart, iir) == 0xc1);
    CHECK(line.receive("12345678") == 8);
    CHECK(line.irq->take() == 1);
    CHECK(in(line.uart, iir) == 0xc4);
}

TEST_CASE("pasted text of many KiB arrives whole") {
    Line line;
    line.open();
    std::string text;
    for (int i = 0; i < 3000; ++i)
        text += "echo " + std::to_string(i) + "\n";
    std::string got;
    std::string_view rest{text};
    unsigned refused = 0;
    while (!rest.empty()) {
        rest.remove_prefix(line.receive(rest));
        if (!rest.empty()) {
            CHECK(line.receive(rest) == 0);
            ++refused;
        }
        got += line.drain();
        CHECK(line.room_calls == refused);
    }
    CHECK(got == text);
    CHECK_FALSE(in(line.uart, lsr) & 0x02);
}

TEST_CASE("room is announced once, and only when some was missing") {
    Line line;
    line.open();
    line.receive("abc");
    line.drain();
    CHECK(line.room_calls == 0);
    CHECK(line.receive("0123456789abcdefGHI") == 16);
    in(line.uart, rbr);
    CHECK(line.room_calls == 0);
    line.drain();
    CHECK(line.room_calls == 1);
    line.receive("x");
    line.drain();
    CHECK(line.room_calls == 1);
}

TEST_CASE("clearing the FIFO drops what it holds and announces room") {
    Line line;
    line.open();
    CHECK(line.receive(std::string(20, 'x')) == 16);
    out(line.uart, fcr, 0x83);
    CHECK(line.room_calls == 1);
    CHECK((in(line.uart, lsr) & 1) == 0);
}

TEST_CASE("what is typed before Linux first opens the port waits for it, though the driver clears the FIFO meanwhile") {
    Line line;
    auto& uart = line.uart;
    std::string typed;
    for (int i = 0; i < 40; ++i)
        typed += "command " + std::to_string(i) + "\n";
    std::string_view rest{typed};
    const auto type = [&] { rest.remove_prefix(line.receive(rest)); };
    type();
    SECTION("from power-on") {}
    SECTION("with RTS left high by earlyprintk") {
        for (const auto [reg, value] : {Write{lcr, 0x03}, {ier, 0}, {fcr, 0}, {mcr, 0x03}})
            out(uart, reg, value);
        type();
    }
    // The probe, then the set-up of the kernel's console.
    for (const auto [reg, value] :
         {Write{ier, 0}, {ier, 0x0f}, {ier, 0}, {mcr, 0x1a}, {mcr, 0}, {lcr, 0xbf}, {fcr, 0}, {lcr, 0}, {fcr, 1}}) {
        out(uart, reg, value);
        type();
    }
    in(uart, rbr);
    type();
    out(uart, mcr, 0x01);
    for (int i = 0; i < 2000; ++i) { // the kernel prints
        in(uart, lsr);
        out(uart, thr, '.');
    }
    type();
    // The first open: the FIFO is enabled after the interrupt is, and RTS comes last.
    for (const auto [reg, value] : {Write{fcr, 0x01}, {fcr, 0x07}, {fcr, 0x00}})
        out(uart, reg, value);
    type();
    in(uart, lsr), in(uart, rbr), in(uart, iir), in(uart, msr);
    out(uart, lcr, 0x03);
    out(uart, mcr, 0x09);
    in(uart, lsr), in(uart, rbr), in(uart, iir), in(uart, msr);
    type();
    out(uart, ier, 0x05);
    type();
    out(uart, fcr, 0x01);
    type();
    out(uart, fcr, 0x81);
    out(uart, mcr, 0x0b);
    std::string got;
    for (int turn = 0; turn < 1000 && got.size() < typed.size(); ++turn) {
        got += line.drain();
        type();
    }
    CHECK(got == typed);
    // After the open, clearing the FIFO loses what is in it.
    line.receive("late");
    out(uart, fcr, 0x83);
    CHECK(line.drain().empty());
}

TEST_CASE("what is typed while the port is closed again, or was not taken before, waits for the next to open it") {
    const bool hang_up = GENERATE(true, false);
    Line line;
    std::string typed, got;
    for (int i = 0; i < 40; ++i)
        typed += "command " + std::to_string(i) + "\n";
    std::string_view rest{typed};
    const auto type = [&](std::size_t count) { rest.remove_prefix(line.receive(rest.substr(0, count))); };
    for (unsigned round = 0; round < 5; ++round) {
        line.open();
        type(20);
        got += line.drain();
        type(round); // comes too late for this reader
        line.close(hang_up);
        type(30);
    }
    line.open();
    for (int turn = 0; turn < 1000 && got.size() < typed.size(); ++turn) {
        got += line.drain();
        type(16);
    }
    CHECK(got == typed);
}

TEST_CASE(
    "a guest that clears the FIFO and then polls gets what was typed before, its loopback test gets its own byte") {
    Line line;
    auto& uart = line.uart;
    out(uart, fcr, 0x01);
    CHECK(line.receive("typed ahead") == 11);
    out(uart, fcr, 0xc7);
    CHECK(line.receive(" and more") == 0); // must not pass what waits already
    out(uart, mcr, 0x1e);
    out(uart, thr, 0xae);
    CHECK(in(uart, rbr) == 0xae);
    out(uart, mcr, GENERATE(std::uint8_t{0x0f}, std::uint8_t{0x00}));
    std::string got;
    for (int i = 0; i < 200; ++i)
        if (in(uart, lsr) & 1)
            got.push_back(static_cast<char>(in(uart, rbr)));
    CHECK(got == "typed ahead");
    CHECK(line.room_calls == 1);
    CHECK(line.receive(" and more") == 9);
    CHECK(line.drain() == " and more");
}

TEST_CASE("before the port is opened no register write loses or reorders input, whatever comes in which order") {
    std::mt19937 random{7};
    for (int round = 0; round < 200; ++round) {
        Line line;
        std::string typed(1000, 0), got;
        for (auto& c : typed)
            c = static_cast<char>(random());
        std::string_view rest{typed};
        const bool loops = round % 2; // with loopback the input may be mixed, but must stay complete
        for (int step = 0; step < 2000; ++step) {
            const auto value = static_cast<std::uint8_t>(random());
            switch (random() % 8) {
            case 0:
            case 1:
                rest.remove_prefix(line.receive(rest.substr(0, value % 24)));
                break;
            case 2:
                out(line.uart, fcr, value);
                break;
            case 3:
                out(line.uart, ier, value);
                break;
            case 4:
                out(line.uart, mcr, loops ? value : value & 0x07); // OUT2 would open the port
                break;
            case 5:
                out(line.uart, thr, value);
                break;
            default:
                if (in(line.uart, lsr) & 1)
                    got.push_back(static_cast<char>(in(line.uart, rbr)));
            }
        }
        if (!loops)
            CHECK(typed.starts_with(got));
        out(line.uart, mcr, 0x0b);
        for (int step = 0; step < 200; ++step)
            got += line.drain();
        if (!loops)
            CHECK(got == typed.substr(0, typed.size() - rest.size()));
    }
}

TEST_CASE("without a FIFO one byte fits") {
    Line line;
    CHECK(line.receive("ab") == 1);
    CHECK(in(line.uart, rbr) == 'a');
    CHECK(line.room_calls == 1);
    CHECK(line.receive("b") == 1);
    CHECK(in(line.uart, rbr) == 'b');
    CHECK(in(line.uart, rbr) == 0);
}

TEST_CASE("a guest that lowers RTS after raising it stops its input") {
    Line line;
    CHECK(line.receive("a") == 1); // its interrupt was not raised, so the guest does not know of it
    line.open();
    CHECK(line.drain() == "a");
    out(line.uart, mcr, 0x09);
    CHECK(line.receive("hello") == 0);
    CHECK(line.room_calls == 0);
    out(line.uart, mcr, 0x0b);
    CHECK(line.room_calls == 1);
    CHECK(line.receive("hello") == 5);
}

TEST_CASE("in loopback the guest hears itself and nothing leaves") {
    Line line;
    auto& uart = line.uart;
    out(uart, fcr, 0x01);
    out(uart, mcr, 0x1f);
    CHECK((in(uart, msr) & 0xf0) == 0xf0);
    for (int i = 0; i < 17; ++i)
        out(uart, thr, static_cast<std::uint8_t>(i));
    CHECK(line.sent.empty());
    CHECK(line.receive("x") == 0);
    CHECK((in(uart, lsr) & 0x03) == 0x03); // overrun
    CHECK((in(uart, lsr) & 0x03) == 0x01); // reported once
    for (int i = 0; i < 16; ++i)
        CHECK(in(uart, rbr) == i);
    out(uart, mcr, 0x0b);
    CHECK(line.room_calls == 1);
}

TEST_CASE("an overrun interrupts with the highest priority") {
    Line line;
    auto& uart = line.uart;
    out(uart, mcr, 0x10);
    out(uart, ier, 0x0f);
    out(uart, thr, 1);
    out(uart, thr, 2);
    CHECK(in(uart, iir) == 0x06);
    in(uart, lsr);
    CHECK(in(uart, iir) == 0x04);
    CHECK(in(uart, rbr) == 2); // without a FIFO the newer byte is kept
    CHECK(in(uart, iir) == 0x02);
    CHECK(in(uart, iir) == 0x00); // CTS, DSR and DCD fell
    CHECK((in(uart, msr) & 0x0f) == 0x0b);
    CHECK(in(uart, iir) == 0x01);
}

TEST_CASE("the divisor latch hides the data and interrupt enable registers") {
    Line line;
    auto& uart = line.uart;
    out(uart, ier, 0x05);
    out(uart, lcr, 0x83);
    out(uart, 0, 0x01);
    out(uart, 1, 0x00);
    CHECK(in(uart, 0) == 0x01);
    CHECK(in(uart, 1) == 0x00);
    out(uart, lcr, 0x03);
    CHECK(in(uart, ier) == 0x05);
    CHECK(line.sent.empty());
}

TEST_CASE("wide accesses act on neighbouring registers, as the ISA bus splits them") {
    Line line;
    out<std::uint16_t>(line.uart, thr, 0x0541);
    CHECK(line.sent == "A");
    CHECK(in(line.uart, ier) == 0x05);
    CHECK(in<std::uint16_t>(line.uart, lsr) == 0xb060);
}

TEST_CASE("input and guest access from different threads lose nothing") {
    Line line;
    line.open();
    const std::string text(20'000, 'p');
    std::jthread typist{[&] {
        for (std::string_view rest{text}; !rest.empty();)
            rest.remove_prefix(line.receive(rest));
    }};
    std::string got;
    while (got.size() < text.size()) {
        got += line.drain();
        out(line.uart, thr, '.');
    }
    CHECK(got == text);
}

} // namespace inox::devices_serial_test
