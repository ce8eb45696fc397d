// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <sys/mman.h>
#include <sys/socket.h>

#include <linux/fuse.h>

#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

using Clock = std::chrono::steady_clock;
using share::max_message;

/// Of the request by which the device itself tells the server to forget all.
constexpr std::uint64_t own_unique = ~std::uint64_t{0};

template <class T> std::span<const std::byte> bytes_of(const T& value) { return std::as_bytes(std::span{&value, 1}); }

/// A slice of memory costs about as much as a look-up of a mapping for each of these bytes.
constexpr std::uint64_t bytes_a_unit = 256;

/// What is behind the first `bytes` of the ranges.
std::vector<Range<Iova>> without_front(std::span<const Range<Iova>> ranges, std::uint64_t bytes) {
    std::vector<Range<Iova>> rest;
    for (const auto& range : ranges) {
        if (bytes >= range.size()) {
            bytes -= range.size();
            continue;
        }
        rest.push_back(*Range<Iova>::closed(Iova{range.start().raw() + bytes}, range.last()));
        bytes = 0;
    }
    return rest;
}

} // namespace

FsFolder::FsFolder(const FsOptions& options, EventLoop& loop, Start start)
    : Device{options.tag + " (virtio-fs)"}, loop_{loop}, start_{std::move(start)}, config_{fs_config(options)} {
    chain_.keeps_addresses = true;
}

Result<std::shared_ptr<FsFolder>> FsFolder::create(const FsOptions& options, EventLoop& loop) {
    if (!share::available() || !outside::is_shut())
        TRY_VOID(share::open_folder(options.path));
    if (outside::door() != nullptr || outside::is_shut())
        return create(options, loop, [path = options.path, read_only = options.read_only] {
            return share::start_outside(path, read_only);
        });
    auto folder = std::make_shared<UniqueFd>(TRY(share::open_folder(options.path)));
    return create(options, loop, [folder, read_only = options.read_only] {
        return share::start(folder->get(), read_only, share::own_program);
    });
}

Result<std::shared_ptr<FsFolder>> FsFolder::create(const FsOptions& options, EventLoop& loop, Start start) {
    std::shared_ptr<FsFolder> fs{new FsFolder{options, loop, std::move(start)}};
    TRY_VOID(fs->start_server());
    return fs;
}

void FsFolder::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    store_le(data, 0);
    if (offset < config_.size())
        std::ranges::copy(std::span{config_}.subspan(offset).first(std::min(data.size(), config_.size() - offset)),
                          data.begin());
}

// --- from the guest to the server ---

void FsFolder::on_kick(unsigned index) noexcept {
    flush();
    Queue* ring = queue(index);
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    const auto served =
        serve(*ring, chain_, ring->size(), [&](Chain& chain) { return serve_one(index, *ring, chain); });
    blocked_[index] = served == Served::blocked;
    signal(index);
    if (served == Served::more)
        later_.post(loop_, index, weak_from_this(), [index](FsFolder& self) { self.kick(index); });
}

/// False: there is no room for the request now.
bool FsFolder::serve_one(unsigned index, Queue& queue, Chain& chain) noexcept {
    fuse_in_header header{};
    const auto size = Chain::bytes(chain.readable);
    const bool whole = chain.copy_from(0, std::as_writable_bytes(std::span{&header, 1})) == sizeof header;
    const bool answered = !share::is_unanswered(header.opcode);
    if (!whole || header.len != size || size > max_message || header.unique == own_unique ||
        (answered && Chain::bytes(chain.writable) < sizeof(fuse_out_header))) {
        note_bad_request("a message of FUSE has not the length it says, or no room for its reply");
        refuse(queue, chain, header.unique, EIO);
        return true;
    }
    if (!has_server_for(header)) {
        refuse(queue, chain, header.unique, ENOTCONN);
        return true;
    }
    if (answered && waiting_.contains(header.unique)) {
        note_bad_request("two messages of FUSE with the same number are under way");
        refuse(queue, chain, header.unique, EIO);
        return true;
    }
    const bool full = waiting_.size() >= most_requests || ranges_ >= most_ranges;
    if ((answered && full) || !send(chain, header, size))
        return false;
    chain.work += static_cast<std::uint32_t>(Turn::system_call + size / bytes_a_unit);
    if (answered)
        keep(index, chain, header, size);
    return true;
}

/// A guest that mounts the folder again gets a server again.
bool FsFolder::has_server_for(const fuse_in_header& header) noexcept {
    if (alive_ || header.opcode != FUSE_INIT || Clock::now() - started_ < between_starts)
        return alive_;
    if (const auto done = start_server(); !done)
        log::write(log::Level::warning, "%s: %s", name().c_str(), done.error().message().c_str());
    return alive_;
}

/// False, with nothing sent, when the socket takes nothing.
bool FsFolder::send(const Chain& chain, const fuse_in_header& header, std::uint64_t size) noexcept {
    if (!out_.empty() || must_forget_) {
        watch_writable();
        return false;
    }
    // The header that was checked, and then what the guest has behind it: its copy is the server's to check.
    std::vector<iovec> pieces = chain.readable;
    static_cast<void>(drop_front(pieces, sizeof header));
    fuse_in_header copy = header;
    pieces.insert(pieces.begin(), {&copy, sizeof copy});
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = std::min<std::size_t>(pieces.size(), IOV_MAX);
    const ssize_t sent = ::sendmsg(server_.socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) {
        if (sent < 0 && errno != EAGAIN && errno != EINTR) // its end shows at the other direction as well
            later_.post(loop_, 2, weak_from_this(), [](FsFolder& self) { self.on_readable(); });
        watch_writable();
        return false;
    }
    used_ = true;
    const auto done = static_cast<std::size_t>(sent);
    if (done < size) {
        out_.resize(size - done);
        sent_ = 0;
        const auto head = bytes_of(copy).subspan(std::min(done, sizeof copy));
        std::ranges::copy(head, out_.begin());
        chain.copy_from(std::max(done, sizeof copy), std::span{out_}.subspan(head.size()));
        watch_writable();
    }
    return true;
}

void FsFolder::keep(unsigned index, Chain& chain, const fuse_in_header& header, std::uint64_t sent) noexcept {
    Request request{index, std::move(chain.head), Chain::bytes(chain.writable), without_front(chain.addresses, sent)};
    ranges_ += request.ranges.size();
    waiting_.emplace(header.unique, std::move(request));
}

/// Answers without the server, as far as there is room for an answer.
void FsFolder::refuse(Queue& queue, Chain& chain, std::uint64_t unique, int error) noexcept {
    const fuse_out_header reply{sizeof reply, -error, unique};
    const bool fits = Chain::bytes(chain.writable) >= sizeof reply;
    queue.push(chain.head, fits ? static_cast<std::uint32_t>(chain.copy_to(0, bytes_of(reply))) : 0);
}

/// Sends the rest of a message, and what the device itself has to say behind it.
void FsFolder::flush() noexcept {
    while (alive_) {
        if (out_.empty() && !must_forget_)
            return writable_.reset();
        if (out_.empty()) {
            fuse_in_header header{};
            header.len = sizeof header;
            header.opcode = FUSE_DESTROY;
            header.unique = own_unique;
            const auto bytes = bytes_of(header);
            out_.assign(bytes.begin(), bytes.end());
            sent_ = 0;
            must_forget_ = false;
            ++forgetting_;
        }
        const ssize_t sent =
            ::send(server_.socket.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            return watch_writable();
        sent_ += static_cast<std::size_t>(sent);
        if (sent_ == out_.size()) {
            out_.clear();
            out_.shrink_to_fit();
        }
    }
}

void FsFolder::watch_writable() noexcept {
    if (writable_ || !alive_)
        return;
    if (auto watch = loop_.watch_writable(server_.socket.get(), [this] { on_writable(); }))
        writable_ = std::move(*watch);
}

void FsFolder::on_writable() noexcept {
    with_lock([&](bool) { flush(); });
    if (writable_)
        return;
    for (unsigned index = 0; index < sizes.size(); ++index)
        kick(index);
}

void FsFolder::on_reset() noexcept {
    waiting_.clear();
    ranges_ = 0;
    blocked_ = {};
    if (!std::exchange(used_, false))
        return;
    must_forget_ = true;
    later_.post(loop_, 3, weak_from_this(), [](FsFolder& self) { self.with_lock([&](bool) { self.flush(); }); });
}

void FsFolder::on_reset_queue(unsigned index) noexcept {
    for (auto& [unique, request] : waiting_) {
        if (request.queue != index)
            continue;
        request.head = {};
        ranges_ -= request.ranges.size();
        request.ranges = {};
    }
    blocked_[index] = false;
}

// --- from the server to the guest ---

void FsFolder::on_readable() noexcept {
    Turn turn;
    bool good = true;
    std::array<bool, 2> again{};
    with_lock([&](bool active) {
        if (!alive_)
            return;
        signalled_ = {};
        good = take_replies(turn);
        for (unsigned index = 0; index < sizes.size() && active; ++index) {
            if (signalled_[index])
                signal(index);
            again[index] = std::exchange(blocked_[index], false) && good;
        }
    });
    if (!good)
        lose_server();
    for (unsigned index = 0; index < sizes.size(); ++index)
        if (again[index])
            kick(index);
}

/// False when there is no server any more, or it breaks the framing.
bool FsFolder::take_replies(Turn& turn) noexcept {
    const auto in = in_.bytes();
    while (!turn.over()) {
        const ssize_t got = ::recv(server_.socket.get(), in.data() + filled_, in.size() - filled_, MSG_DONTWAIT);
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EINTR);
        filled_ += static_cast<std::size_t>(got);
        turn.spend(Turn::system_call + static_cast<std::uint64_t>(got) / bytes_a_unit);
        std::size_t at = 0;
        while (filled_ - at >= sizeof(fuse_out_header)) {
            const std::size_t length = load_le<std::uint32_t>(in.subspan(at, sizeof(std::uint32_t)));
            if (length < sizeof(fuse_out_header) || length > in.size())
                return false;
            if (filled_ - at < length)
                break;
            complete(in.subspan(at, length), turn);
            at += length;
        }
        filled_ -= at;
        std::memmove(in.data(), in.data() + at, filled_);
    }
    return true;
}

void FsFolder::complete(std::span<const std::byte> reply, Turn& turn) noexcept {
    const auto unique = load_le(reply.subspan(offsetof(fuse_out_header, unique), sizeof(std::uint64_t)));
    if (unique == own_unique) {
        forgetting_ -= forgetting_ != 0 ? 1 : 0;
        return;
    }
    if (forgetting_ != 0 || must_forget_)
        return; // of a request from before a reset
    const auto found = waiting_.find(unique);
    if (found == waiting_.end())
        return;
    give(found->second, reply, turn);
    ranges_ -= found->second.ranges.size();
    waiting_.erase(found);
}

void FsFolder::give(Request& request, std::span<const std::byte> reply, Turn& turn) noexcept {
    Queue* ring = queue(request.queue);
    if (!request.head || !ring || stopped())
        return;
    fuse_out_header too_long{};
    std::memcpy(&too_long, reply.data(), sizeof too_long);
    if (reply.size() > request.room) {
        too_long.len = sizeof too_long;
        too_long.error = -EIO;
        reply = bytes_of(too_long);
    }
    const auto hold = memory().hold();
    if (!ring->refresh())
        return stop_broken(ring->broken_reason());
    Chain target;
    auto limit = TranslationLimit{Queue::max_chain, Queue::max_mappings};
    bool reached = true;
    for (const auto& range : request.ranges)
        reached = reached && memory().translate(range, Access::write, target.writable, limit) == Translated::whole;
    turn.spend(Queue::max_mappings - limit.mappings + reply.size() / bytes_a_unit);
    if (!reached)
        note_bad_request("the memory for a reply of FUSE is out of reach");
    ring->push(request.head, reached ? static_cast<std::uint32_t>(target.copy_to(0, reply)) : 0);
    signalled_[request.queue] = true;
}

// --- the server ---

Result<void> FsFolder::start_server() {
    started_ = Clock::now();
    in_ = TRY(Mapping::create(max_message, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    server_ = TRY(start_());
    filled_ = 0;
    readable_ = TRY(loop_.watch(server_.socket.get(), [this] { on_readable(); }));
    out_.clear();
    used_ = must_forget_ = false;
    forgetting_ = 0;
    alive_ = true;
    return {};
}

/// Without the lock. What it had is answered, so that no process of the guest waits for ever.
void FsFolder::lose_server() noexcept {
    readable_.reset();
    writable_.reset();
    const auto outcome = server_.process.ended(std::chrono::milliseconds{40}).value_or("still running");
    with_lock([&](bool active) {
        alive_ = false;
        Turn turn;
        signalled_ = {};
        for (auto& [unique, request] : waiting_) {
            const fuse_out_header reply{sizeof reply, -ENOTCONN, unique};
            if (active)
                give(request, bytes_of(reply), turn);
        }
        waiting_.clear();
        ranges_ = 0;
        for (unsigned index = 0; index < sizes.size() && active; ++index)
            if (signalled_[index])
                signal(index);
    });
    log::write(log::Level::warning,
               "%s: its server is gone (%s); requests fail until the guest mounts the folder again", name().c_str(),
               outcome.c_str());
    server_ = {};
    for (unsigned index = 0; index < sizes.size(); ++index)
        kick(index);
}

} // namespace inox::devices::virtio
