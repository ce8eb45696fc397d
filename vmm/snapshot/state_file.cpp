// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/state_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"
#include "vmm/snapshot/cbor_shape.hpp"
#include "vmm/snapshot/checksum.hpp"

namespace inox::snapshot {
namespace {

using nlohmann::json;

constexpr CborLimits outer_limits{2, 512};
constexpr CborLimits part_limits{24, 1'000'000};

struct Header {
    std::array<char, 8> magic{};
    Le32 format{};
    Le32 header_bytes{};
    Le64 body_bytes{};
    Le64 body_sum{};
    std::array<std::byte, 24> zero{};
    Le64 header_sum{};
};
static_assert(sizeof(Header) == header_size);

std::uint64_t sum_of(const Header& header) {
    return checksum(std::as_bytes(std::span{&header, 1}).first(offsetof(Header, header_sum)));
}

std::unexpected<Error> invalid(std::string what,
                               const char* hint = "take another copy of it, or save the guest again") {
    return fail(Errc::snapshot_invalid, "the snapshot's state " + std::move(what), hint);
}

/// Of a header that is whole.
Result<void> check_header(const Header& header, std::size_t bytes) {
    if (std::string_view{header.magic.data(), header.magic.size()} != magic)
        return invalid("is none: it does not begin as one", "name the state file of a snapshot that inox made");
    if (header.header_sum != sum_of(header))
        return invalid("is damaged: its header's checksum is wrong");
    if (header.format != format)
        return invalid(format > header.format ? "has a format that was given up" : "was written by a newer inox",
                       "use the version of inox that wrote it");
    if (header.header_bytes != header_size || std::ranges::any_of(header.zero, [](auto b) { return b != std::byte{}; }))
        return invalid("is damaged: its header has fields that this format has not");
    const std::uint64_t has = bytes - header_size;
    if (header.body_bytes > has)
        return invalid("is truncated: " + std::to_string(has) + " of " + std::to_string(header.body_bytes) +
                       " bytes are there");
    if (header.body_bytes < has)
        return invalid("is damaged: there is more behind its end");
    return {};
}

std::span<const std::byte> bytes_of(const json::binary_t& binary) {
    return std::as_bytes(std::span{static_cast<const std::vector<std::uint8_t>&>(binary)});
}

json parse(std::span<const std::byte> bytes) {
    const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data()); // NOLINT: the parser's type of a byte
    return json::from_cbor(begin, begin + bytes.size(), true, false);
}

json with_sum(std::vector<std::uint8_t> bytes) {
    const auto sum = checksum(std::as_bytes(std::span{bytes}));
    return json::array({sum, json::binary(std::move(bytes))});
}

std::vector<std::byte> with_header(const json& body) {
    const auto bytes = json::to_cbor(body);
    Header header;
    std::ranges::copy(magic, header.magic.begin());
    header.format = format;
    header.header_bytes = header_size;
    header.body_bytes = bytes.size();
    header.body_sum = checksum(std::as_bytes(std::span{bytes}));
    header.header_sum = sum_of(header);
    std::vector<std::byte> out(header_size + bytes.size());
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + header_size, bytes.data(), bytes.size());
    return out;
}

} // namespace

std::vector<std::byte> encode(const json& parts) {
    json body = json::object();
    for (const auto& [name, part] : parts.items())
        body[name] = with_sum(json::to_cbor(part));
    return with_header(body);
}

std::vector<std::byte> wrap(std::string_view part, std::span<const std::byte> bytes) {
    std::vector<std::uint8_t> plain(bytes.size());
    std::ranges::transform(bytes, plain.begin(), [](std::byte one) { return std::to_integer<std::uint8_t>(one); });
    return with_header({{std::string{part}, with_sum(std::move(plain))}});
}

Result<json> decode(std::span<const std::byte> bytes) {
    if (bytes.size() > most_bytes)
        return invalid("is larger than any: " + std::to_string(bytes.size()) + " bytes",
                       "name the state file of a snapshot, not its memory");
    Header header;
    if (bytes.size() < sizeof header)
        return invalid("is truncated: it has no whole header");
    std::memcpy(&header, bytes.data(), sizeof header);
    TRY_VOID(check_header(header, bytes.size()));
    const auto body = bytes.subspan(header_size);
    if (header.body_sum != checksum(body))
        return invalid("is damaged: its checksum is wrong");
    if (!is_plain_cbor(body, outer_limits))
        return invalid("is not made of parts");
    const json outer = parse(body);
    if (!outer.is_object())
        return invalid("is not made of parts");
    json parts = json::object();
    for (const auto& [name, part] : outer.items()) {
        if (!part.is_array() || part.size() != 2 || !part[0].is_number_unsigned() || !part[1].is_binary())
            return invalid("has a part that is none: " + name);
        const auto inner = bytes_of(part[1].get_binary());
        if (part[0].get<std::uint64_t>() != checksum(inner))
            return invalid("is damaged: the checksum of its part " + name + " is wrong");
        if (!is_plain_cbor(inner, part_limits))
            return invalid("has a part with a shape that none has: " + name);
        auto value = parse(inner);
        if (value.is_discarded() || !value.is_object())
            return invalid("has a part that is no group of fields: " + name);
        parts[name] = std::move(value);
    }
    return parts;
}

Result<json> read_state(int file, const char* path) {
    struct stat status {};
    if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        return fail(Errc::snapshot_missing, std::string{path} + " is not a regular file", "name a snapshot's state");
    // One byte more, to see that a file has grown or is too large without reading it whole
    const auto size = std::min<std::size_t>(static_cast<std::size_t>(status.st_size), most_bytes + 1);
    std::vector<std::byte> bytes(size);
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto got = ::pread(file, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(Errc::snapshot_missing, std::string{"cannot read "} + path);
        if (got == 0)
            break;
        done += static_cast<std::size_t>(got);
    }
    bytes.resize(done);
    return decode(bytes);
}

} // namespace inox::snapshot
