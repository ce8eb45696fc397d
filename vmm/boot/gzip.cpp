// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/gzip.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <zlib.h>

namespace inox::boot {
namespace {

constexpr std::size_t read_size = 64 * KiB;
constexpr std::size_t least_room = 256 * KiB;
constexpr int any_window_gzip_header = 15 + 16; // of inflateInit2()
constexpr std::uint16_t magic = 0x8b1f;

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
        stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(room.size(), std::numeric_limits<uInt>::max()));
        const std::size_t before = stream_.avail_out;
        const int code = ::inflate(&stream_, Z_NO_FLUSH);
        made = before - stream_.avail_out;
        return code;
    }
    /// After a member's end, with input: goes on with the next one, if what follows is one.
    [[nodiscard]] bool next_member() { return *stream_.next_in == (magic & 0xff) && ::inflateReset(&stream_) == Z_OK; }

private:
    z_stream stream_{};
    bool ready_;
};

} // namespace

bool is_gzip(const Image& file) {
    const auto start = file.read<Le16>(0);
    return start && *start == magic;
}

Result<Image> gunzip(const Image& file, std::uint64_t largest) {
    static constexpr const char* damaged = "the file is truncated or damaged: fetch or build it again";
    Inflater inflater;
    if (!inflater.ready())
        return fail(Errc::host_error, "no memory to unpack " + file.name());
    std::vector<std::byte> input(read_size);
    std::vector<std::byte> out;
    std::uint64_t offset = 0;
    std::size_t size = 0;
    bool between_members = false;
    for (;;) {
        if (inflater.hungry()) {
            const auto chunk = std::min<std::uint64_t>(input.size(), file.size() - offset);
            if (chunk == 0 && between_members)
                break;
            if (chunk == 0)
                return file.invalid("the gzip archive ends early", damaged);
            TRY_VOID(file.read(offset, std::span{input}.first(chunk)));
            offset += chunk;
            inflater.give(std::span{input}.first(chunk));
        }
        if (between_members && !inflater.next_member())
            break;
        // One byte more than may come: then a kernel of just the largest size still ends.
        if (size == out.size())
            out.resize(static_cast<std::size_t>(std::min<std::uint64_t>(std::max(2 * size, least_room), largest + 1)));
        std::size_t made = 0;
        const int code = inflater.run(std::span{out}.subspan(size), made);
        size += made;
        if (size > largest)
            return file.invalid(format("unpacks to more than %llu MiB", static_cast<unsigned long long>(largest / MiB)),
                                "no kernel is so large: unpack it with zcat and look at it");
        between_members = code == Z_STREAM_END;
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return file.invalid("the gzip archive is damaged", damaged);
    }
    out.resize(size);
    return file.with(std::move(out), "unpacked");
}

} // namespace inox::boot
