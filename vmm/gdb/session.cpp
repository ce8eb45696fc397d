// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/session.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/hex.hpp"

namespace inox::gdb {
namespace {

constexpr const char* ok = "OK";
// GDB shows the number only.
constexpr const char* bad_request = "E01";
constexpr const char* no_memory = "E0e";
constexpr const char* no_slot = "E16";

/// Cuts the text at the first `separator`, and leaves what is behind it.
std::string_view cut(std::string_view& text, char separator) {
    const auto at = std::min(text.find(separator), text.size());
    const auto part = text.substr(0, at);
    text.remove_prefix(std::min(at + 1, text.size()));
    return part;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix))
        return false;
    text.remove_prefix(prefix.size());
    return true;
}

std::string thread_id(unsigned vcpu) { return format("%02x", vcpu + 1); }

std::string stop_reply(const Stop& stop) {
    const auto thread = "thread:" + thread_id(stop.vcpu) + ";";
    switch (stop.why) {
    case Stop::Why::interrupted:
        return "T02" + thread;
    case Stop::Why::software:
        return "T05swbreak:;" + thread;
    case Stop::Why::hardware:
        return "T05hwbreak:;" + thread;
    case Stop::Why::watch:
        return format("T05%s:%llx;", stop.breakpoint.kind == Breakpoint::Kind::access ? "awatch" : "watch",
                      hex(stop.breakpoint.address)) +
               thread;
    case Stop::Why::step:
    case Stop::Why::panic:
        break;
    }
    return "T05" + thread;
}

} // namespace

void Session::receive(std::span<const std::byte> bytes) {
    while (!over_) {
        const auto event = reader_.next(bytes);
        if (!event)
            return;
        switch (event->kind) {
        case PacketReader::Kind::interrupt:
            if (running_) {
                target_.interrupt();
                on_stop({last_stop_.vcpu, Stop::Why::interrupted, {}});
            }
            break;
        case PacketReader::Kind::bad:
            if (acknowledges_)
                owner_.send("-");
            break;
        case PacketReader::Kind::again:
            owner_.send(last_reply_);
            break;
        case PacketReader::Kind::packet:
            handle(event->text);
        }
    }
}

void Session::handle(const std::string& packet) {
    if (acknowledges_)
        owner_.send("+");
    if (running_)
        return; // in all-stop mode only the byte 3 has a meaning now
    if (packet == "D" || packet.starts_with("D;")) {
        reply(ok);
        over_ = true;
        return owner_.detached();
    }
    if (packet == "k" || packet.starts_with("vKill")) {
        if (packet != "k")
            reply(ok);
        over_ = true;
        return target_.kill();
    }
    const auto text = answer(packet);
    if (!running_)
        reply(text);
    if (packet == "QStartNoAckMode")
        acknowledges_ = false;
}

void Session::on_stop(const Stop& stop) {
    if (!std::exchange(running_, false))
        return;
    last_stop_ = stop;
    vcpu_ = stop.vcpu;
    reply(stop_reply(stop));
}

void Session::on_end() {
    if (!std::exchange(over_, true) && running_)
        reply("W00");
}

void Session::reply(std::string_view text) {
    last_reply_ = frame(text);
    owner_.send(last_reply_);
}

std::string Session::answer(std::string_view packet) {
    if (packet.empty())
        return {};
    const auto rest = packet.substr(1);
    switch (packet.front()) {
    case '?':
        return stop_reply(last_stop_);
    case 'g':
        return read_registers();
    case 'G':
        return write_registers(rest);
    case 'p':
        return read_register(rest);
    case 'P':
        return write_register(rest);
    case 'm':
        return read_memory(rest);
    case 'M':
        return write_memory(rest, false);
    case 'X':
        return write_memory(rest, true);
    case 'Z':
        return change_breakpoint(rest, true);
    case 'z':
        return change_breakpoint(rest, false);
    case 'H':
        return set_thread(rest);
    case 'T':
        return vcpu_of(rest) ? ok : bad_request;
    case 'c':
        return resume(Resume{});
    case 's':
        return resume(Resume{.only = {}, .step = vcpu_});
    case 'v':
        if (rest == "Cont?")
            return "vCont;c;C;s;S";
        return packet.starts_with("vCont;") ? resume(packet.substr(6)) : "";
    case 'q':
        return answer_query(rest);
    case 'Q':
        return answer_set(rest);
    default:
        return {};
    }
}

std::string Session::answer_query(std::string_view query) {
    if (query.starts_with("Supported"))
        return format("PacketSize=%zx;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+",
                      longest_packet);
    if (query == "C")
        return "QC" + thread_id(vcpu_);
    if (query == "fThreadInfo")
        return thread_list();
    if (query == "sThreadInfo")
        return "l";
    if (query == "Attached")
        return "1"; // so that GDB's quit detaches
    if (query == "Offsets")
        return offsets();
    if (take_prefix(query, "ThreadExtraInfo,")) {
        const auto vcpu = vcpu_of(query);
        return vcpu ? to_hex(format("vCPU %u", *vcpu)) : bad_request;
    }
    if (take_prefix(query, "Rcmd,"))
        return monitor(query);
    if (take_prefix(query, "Xfer:features:read:target.xml:"))
        return feature_part(query);
    return {};
}

std::string Session::answer_set(std::string_view packet) { return packet == "StartNoAckMode" ? ok : ""; }

std::string Session::read_registers() const {
    const auto registers = target_.registers(vcpu_);
    return registers ? encode(*registers) : bad_request;
}

std::string Session::write_registers(std::string_view text) {
    const auto bytes = from_hex(text);
    auto registers = target_.registers(vcpu_);
    if (!bytes || !registers || !decode(*bytes, *registers) || !target_.set_registers(vcpu_, *registers))
        return bad_request;
    return ok;
}

std::string Session::read_register(std::string_view text) const {
    const auto number = hex_number(text);
    const auto registers = target_.registers(vcpu_);
    if (!number || !registers)
        return bad_request;
    return encode(*registers, *number).value_or(bad_request);
}

std::string Session::write_register(std::string_view text) {
    const auto number = hex_number(cut(text, '='));
    const auto bytes = from_hex(text);
    auto registers = target_.registers(vcpu_);
    if (!number || !bytes || !registers || !decode(*number, *bytes, *registers) ||
        !target_.set_registers(vcpu_, *registers))
        return bad_request;
    return ok;
}

std::string Session::read_memory(std::string_view text) const {
    const auto address = hex_number(cut(text, ','));
    const auto length = hex_number(text);
    if (!address || !length)
        return bad_request;
    std::vector<std::byte> bytes(std::min<std::uint64_t>(*length, longest_packet / 2));
    bytes.resize(target_.read(vcpu_, *address, bytes));
    return bytes.empty() && *length != 0 ? no_memory : to_hex(bytes);
}

std::string Session::write_memory(std::string_view text, bool binary) {
    const auto address = hex_number(cut(text, ','));
    const auto length = hex_number(cut(text, ':'));
    if (!address || !length)
        return bad_request;
    const auto raw = std::as_bytes(std::span{text});
    const auto bytes = binary ? std::optional{std::vector<std::byte>{raw.begin(), raw.end()}} : from_hex(text);
    if (!bytes || bytes->size() != *length)
        return bad_request;
    return target_.write(vcpu_, *address, *bytes) ? ok : no_memory;
}

std::string Session::change_breakpoint(std::string_view text, bool insert) {
    const auto kind = hex_number(cut(text, ','));
    const auto address = hex_number(cut(text, ','));
    const auto length = hex_number(cut(text, ';'));
    if (!kind || !address || !length)
        return bad_request;
    if (*kind > static_cast<unsigned>(Breakpoint::Kind::access))
        return {};
    Breakpoint breakpoint{static_cast<Breakpoint::Kind>(*kind), *address, static_cast<unsigned>(*length)};
    if (breakpoint.kind == Breakpoint::Kind::read)
        return {}; // x86 knows no breakpoint for reads alone
    if (breakpoint.kind == Breakpoint::Kind::software || breakpoint.kind == Breakpoint::Kind::execute)
        breakpoint.length = 1;
    if (!insert) {
        target_.remove(breakpoint);
        return ok;
    }
    const auto inserted = target_.insert(vcpu_, breakpoint);
    if (inserted)
        return ok;
    return inserted.error().code == Errc::not_found ? no_memory : no_slot;
}

/// 0 is any thread, -1 all of them.
std::optional<unsigned> Session::vcpu_of(std::string_view id) const {
    if (id == "-1" || id == "0")
        return vcpu_;
    const auto number = hex_number(id);
    if (!number || *number == 0 || *number > target_.vcpus())
        return std::nullopt;
    return static_cast<unsigned>(*number - 1);
}

std::string Session::set_thread(std::string_view text) {
    if (text.empty())
        return bad_request;
    const auto vcpu = vcpu_of(text.substr(1));
    if (!vcpu)
        return bad_request;
    if (text.front() == 'g')
        vcpu_ = *vcpu;
    return ok;
}

/// "s:1;c": the first action that names a thread, or none, counts for it.
std::string Session::resume(std::string_view actions) {
    Resume how;
    bool all = false;
    while (!actions.empty()) {
        auto one = cut(actions, ';');
        auto action = cut(one, ':');
        const char what = action.empty() ? '\0' : action.front();
        if (what != 'c' && what != 'C' && what != 's' && what != 'S')
            return bad_request;
        const auto vcpu = one.empty() || one == "-1" ? std::optional<unsigned>{} : vcpu_of(one);
        if (!one.empty() && one != "-1" && !vcpu)
            return bad_request;
        const bool step = what == 's' || what == 'S';
        if (step && !how.step)
            how.step = vcpu.value_or(vcpu_);
        if (!vcpu)
            all = true;
        else if (!how.only)
            how.only = vcpu;
        else if (how.only != vcpu)
            all = true;
    }
    if (all)
        how.only.reset();
    return resume(how);
}

std::string Session::resume(const Resume& how) {
    if (!target_.resume(how))
        return bad_request;
    running_ = true;
    return {};
}

std::string Session::feature_part(std::string_view range) const {
    const auto offset = hex_number(cut(range, ','));
    const auto length = hex_number(range);
    const auto& text = target_description();
    if (!offset || !length || *offset > text.size())
        return bad_request;
    const auto part = text.substr(*offset, std::min<std::uint64_t>(*length, longest_packet / 2));
    return (*offset + part.size() < text.size() ? "m" : "l") + part;
}

std::string Session::thread_list() const {
    std::string out = "m";
    for (unsigned vcpu = 0; vcpu < target_.vcpus(); ++vcpu)
        out += (vcpu == 0 ? "" : ",") + thread_id(vcpu);
    return out;
}

std::string Session::offsets() const {
    const auto offset = hex(target_.kernel_offset().value_or(0));
    return format("Text=%llx;Data=%llx;Bss=%llx", offset, offset, offset);
}

std::string Session::monitor(std::string_view hex) {
    const auto command = from_hex(hex);
    if (!command)
        return bad_request;
    const auto text = target_.monitor({reinterpret_cast<const char*>(command->data()), command->size()}); // NOLINT
    for (std::string_view rest = text; !rest.empty();) {
        const auto part = rest.substr(0, longest_packet / 2 - 1);
        reply("O" + to_hex(part));
        rest.remove_prefix(part.size());
    }
    return ok;
}

} // namespace inox::gdb
