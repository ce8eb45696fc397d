// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/gzip.hpp"

#include <algorithm>
#include <vector>
#include <zlib.h>

#include "vmm/base/hex.hpp"

namespace inox::boot {
namespace {

constexpr std::size_t read_size = 64 * KiB;
constexpr std::size_t head_size = 64 * KiB;     ///< kept, because headers are read many times
constexpr std::size_t step_size = 512 * KiB;    ///< unpacked in about a millisecond
constexpr unsigned most_rewinds = 8;            ///< a kernel's parts are read in the order of the file
constexpr int any_window_gzip_header = 15 + 16; // of inflateInit2()
constexpr std::uint16_t magic = 0x8b1f;
constexpr const char* damaged = "the file is truncated or damaged: fetch or build it again";

class Inflater {
public:
    Inflater() : ready_{::inflateInit2(&stream_, any_window_gzip_header) == Z_OK} {}
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
    ~Inflater() {
        if (ready_)
            ::inflateEnd(&stream_);
    }
    [[nodiscard]] bool ready() const { return ready_; }
    void give(std::span<std::byte> input) {
        stream_.next_in = reinterpret_cast<Bytef*>(input.data()); // NOLINT: bytes are bytes
        stream_.avail_in = static_cast<uInt>(input.size());
    }
    [[nodiscard]] bool hungry() const { return stream_.avail_in == 0; }
    /// Z_OK, Z_STREAM_END or an error; the first `made` bytes of `room` are written.
    int run(std::span<std::byte> room, std::size_t& made) {
        stream_.next_out = reinterpret_cast<Bytef*>(room.data()); // NOLINT: bytes are bytes
        stream_.avail_out = static_cast<uInt>(room.size());
        const int code = ::inflate(&stream_, Z_NO_FLUSH);
        made = room.size() - stream_.avail_out;
        return code;
    }
    /// To be called after a member's end, when input is left: starts the next member; false when none follows.
    [[nodiscard]] bool next_member() { return *stream_.next_in == (magic & 0xff) && ::inflateReset(&stream_) == Z_OK; }
    void restart() {
        stream_.avail_in = 0;
        ::inflateReset(&stream_);
    }

private:
    z_stream stream_{};
    bool ready_;
};

class Unpacker final : public Image::Source {
public:
    Unpacker(const Image& archive, std::uint64_t largest) : archive_{archive}, largest_{largest} {}
    [[nodiscard]] bool ready() const { return inflater_.ready(); }
    Result<void> read_head();
    Result<void> read(std::uint64_t offset, std::span<std::byte> out) override;
    Result<std::uint64_t> measure() override;

private:
    Result<std::size_t> step(std::span<std::byte> room);
    Result<bool> feed();
    Result<void> go_to(std::uint64_t offset);

    const Image& archive_;
    const std::uint64_t largest_;
    Inflater inflater_;
    std::vector<std::byte> input_ = std::vector<std::byte>(read_size);
    std::vector<std::byte> unwanted_ = std::vector<std::byte>(step_size);
    std::vector<std::byte> head_{};
    std::uint64_t offset_{0}; ///< of the archive
    std::uint64_t made_{0};
    bool between_members_{false};
    bool ended_{false};
    unsigned rewinds_{0};
};

/// False when the last member has ended.
Result<bool> Unpacker::feed() {
    if (inflater_.hungry()) {
        const auto chunk = std::min<std::uint64_t>(input_.size(), archive_.size() - offset_);
        if (chunk == 0 && between_members_)
            return false;
        if (chunk == 0)
            return archive_.invalid("the gzip archive ends early", damaged);
        TRY_VOID(archive_.read(offset_, std::span{input_}.first(chunk)));
        offset_ += chunk;
        inflater_.give(std::span{input_}.first(chunk));
    }
    return !between_members_ || inflater_.next_member();
}

/// Returns how many bytes it wrote to `room`: 0 only at the end.
Result<std::size_t> Unpacker::step(std::span<std::byte> room) {
    std::size_t made = 0;
    while (made == 0 && !ended_) {
        TRY_VOID(archive_.check_wanted());
        ended_ = !TRY(feed());
        if (ended_)
            break;
        const int code = inflater_.run(room.first(std::min(room.size(), step_size)), made);
        between_members_ = code == Z_STREAM_END;
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return archive_.invalid("the gzip archive is damaged", damaged);
    }
    made_ += made;
    if (made_ > largest_)
        return archive_.invalid(
            format("unpacks to more than %llu MiB", static_cast<unsigned long long>(largest_ / MiB)),
            "no kernel is that large: unpack it with zcat and check it");
    return made;
}

Result<void> Unpacker::read_head() {
    head_.resize(head_size);
    std::size_t size = 0;
    while (size < head_.size() && !ended_)
        size += TRY(step(std::span{head_}.subspan(size)));
    head_.resize(size);
    return {};
}

Result<void> Unpacker::go_to(std::uint64_t offset) {
    if (offset < made_) {
        if (++rewinds_ > most_rewinds)
            return archive_.invalid("reading it would unpack it too many times", "unpack it with zcat first");
        inflater_.restart();
        offset_ = made_ = 0;
        between_members_ = ended_ = false;
    }
    while (made_ < offset && !ended_)
        TRY_VOID(step(std::span{unwanted_}.first(std::min<std::uint64_t>(unwanted_.size(), offset - made_))));
    return {};
}

Result<void> Unpacker::read(std::uint64_t offset, std::span<std::byte> out) {
    if (offset <= head_.size() && out.size() <= head_.size() - offset) {
        std::ranges::copy(std::span{head_}.subspan(offset, out.size()), out.begin());
        return {};
    }
    TRY_VOID(go_to(offset));
    while (!out.empty() && !ended_)
        out = out.subspan(TRY(step(out)));
    if (!out.empty())
        return archive_.invalid(format("unpacks to 0x%llx bytes, which is not the whole kernel", hex(made_)), damaged);
    return {};
}

Result<std::uint64_t> Unpacker::measure() {
    while (!ended_)
        TRY_VOID(step(unwanted_));
    return made_;
}

} // namespace

bool is_gzip(const Image& file) {
    const auto start = file.read<Le16>(0);
    return start && *start == magic;
}

Result<Image> gunzip(const Image& file, std::uint64_t largest) {
    auto unpacker = std::make_unique<Unpacker>(file, largest);
    if (!unpacker->ready())
        return fail(Errc::host_error, "no memory to unpack " + file.name());
    TRY_VOID(unpacker->read_head());
    return file.with(std::move(unpacker), largest, "unpacked");
}

} // namespace inox::boot
