#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/architecture.svg and docs/pasid.svg: boxes, arrows and words on a ground of their own, so that they can
be read on a dark page, too. `pictures.py FOLDER` writes them elsewhere."""
import pathlib
import sys
from xml.sax.saxutils import escape

INK, MUTED, LINE, GROUND = "#2b2b2b", "#666", "#8a8a8a", "#fbfaf7"
BLUE, GREEN, YELLOW, RED, GREY = "#dce9f5", "#dff0e0", "#f7efcf", "#f6dfd9", "#eeece6"


class Picture:
    """Coordinates are pixels, from the upper left corner."""

    def __init__(self, width, height, title, about):
        self.width, self.height = width, height
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                      f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">',
                      f"<title>{escape(title)}</title>",
                      '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                      f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
                      f'<rect width="100%" height="100%" rx="10" fill="{GROUND}"/>']
        self.text(24, 32, title, size=18, weight=600)
        self.text(24, 52, about, colour=MUTED)

    def text(self, x, y, words, size=13, weight=400, colour=INK, anchor="start"):
        room = {"start": self.width - x, "end": x, "middle": 2 * min(x, self.width - x)}[anchor]
        assert len(words) * size * 0.58 <= room, f"{words!r} does not fit"
        style = (f' font-size="{size}"' if size != 13 else "") + (f' font-weight="{weight}"' if weight != 400 else "")
        style += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self.parts.append(f'<text x="{x}" y="{y}"{style} fill="{colour}">{escape(words)}</text>')

    def box(self, x, y, width, height, title, *lines, fill=GREY):
        """The title in bold, the lines below it; all of it inside"""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
                          f'stroke="{LINE}"/>')
        assert 24 + 16 * len(lines) <= height, f"{title!r} is too high"
        if title:
            self.text(x + 10, y + 19, title, weight=600)
        first = y + 37 if title else y + height // 2 + 12 - 8 * len(lines)
        for number, line in enumerate(lines):
            assert len(line) * 12 * 0.53 <= width - 12, f"{line!r} is too long"
            self.text(x + 10, first + 16 * number, line, size=12, colour=MUTED)

    def frame(self, x, y, width, height, title):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="none" '
                          f'stroke="{LINE}" stroke-dasharray="5 4"/>')
        self.text(x + 10, y + 18, title, size=12, colour=MUTED)

    def arrow(self, x1, y1, x2, y2, words="", both=False, dx=6, dy=-4):
        start = ' marker-start="url(#tip)"' if both else ""
        self.parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{LINE}" stroke-width="1.5" fill="none" '
                          f'marker-end="url(#tip)"{start}/>')
        if words:
            self.text((x1 + x2) // 2 + dx, (y1 + y2) // 2 + dy, words, size=11, colour=MUTED)

    def write(self, path):
        path.write_text("\n".join([*self.parts, "</svg>", ""]), encoding="utf-8")


def architecture():
    p = Picture(860, 570, "inox from above", "each guest is a process of its own; every DMA goes through one core")
    p.frame(20, 70, 820, 64, "who asks")
    p.box(40, 94, 300, 32, "inox ctl, clients of Firecracker's API")
    p.box(370, 94, 210, 32, "inox run, inox test")
    p.box(610, 94, 210, 32, "GDB, crash, drgn")

    p.frame(20, 160, 820, 296, "the inox process")
    p.box(40, 188, 180, 72, "api thread", "HTTP on a unix socket,", "posts to the loop", fill=BLUE)
    p.box(250, 188, 330, 72, "device loop", "owns the machine: doorbells, packets,", "timers, hot-plug; never waits",
          fill=BLUE)
    p.box(610, 188, 210, 72, "one thread per vCPU", "KVM_RUN, exits, registers", "of devices", fill=BLUE)
    p.box(40, 290, 180, 72, "emulated devices", "virtio, serial, clock,", "accelerator (DSA)", fill=GREEN)
    p.box(250, 290, 330, 72, "buses", "port and memory bus, PCI root bus:", "who holds the whole access answers",
          fill=GREEN)
    p.box(610, 290, 210, 72, "assigned devices", "configuration space, BARs,", "interrupts by eventfd", fill=GREEN)
    p.box(40, 392, 780, 50, "address-space core (iommu)",
          "endpoints, domains, mappings, PASIDs and page walks, faults: a device reaches what is mapped for it",
          fill=YELLOW)

    p.frame(20, 482, 820, 68, "the host's kernel")
    p.box(40, 506, 180, 34, "files, taps, sockets")
    p.box(250, 506, 330, 34, "KVM: vCPUs, guest memory, irqfds")
    p.box(610, 506, 210, 34, "VFIO, iommufd, IOMMU")

    p.arrow(190, 126, 190, 188)
    p.arrow(475, 126, 475, 188)
    p.arrow(715, 126, 540, 188)
    p.arrow(220, 224, 250, 224, both=True)
    p.arrow(610, 224, 580, 224, both=True)
    p.arrow(715, 260, 500, 290, "exits", dx=24, dy=8)
    p.arrow(415, 260, 415, 290)
    p.arrow(250, 326, 220, 326)
    p.arrow(580, 326, 610, 326)
    p.arrow(130, 362, 130, 392, "DMA", dy=4)
    p.arrow(715, 362, 715, 392, "maps", dy=4)
    p.arrow(190, 442, 190, 506)
    p.arrow(415, 442, 415, 506, "guest memory", dy=-8)
    p.arrow(715, 442, 715, 506, "the same mappings", dx=-116, dy=-8)
    return p


def pasid():
    p = Picture(860, 430, "the life of a PASID",
                "what the guest does, what inox does for it, and what the PASID then is")
    columns = [("allocate", ["VCMD 01"], ["takes a number,", "within the quota"], "a number", GREY),
               ("bind", ["VCMD c0: device", "and page table"], ["checks and fills", "the table"], "usable", BLUE),
               ("submit", ["ENQCMD or a", "store, with it"], ["translates it to", "the host's"], "in use",
                GREEN),
               ("work", ["waits for the", "completion"], ["walks the bound", "tables"], "in use",
                GREEN),
               ("unbind", ["VCMD c1"], ["waits for who is", "using it now"], "a number", YELLOW),
               ("free", ["VCMD 02"], ["kept until the", "devices let go"], "nothing", RED)]
    p.text(24, 116, "guest", weight=600)
    p.text(24, 216, "inox", weight=600)
    p.text(24, 312, "PASID", weight=600)
    width, left, gap = 118, 78, 11
    for number, (name, guest, inox, state, fill) in enumerate(columns):
        x = left + number * (width + gap)
        p.box(x, 82, width, 64, name, *guest, fill=fill)
        p.box(x, 182, width, 64, "", *inox, fill=GREY)
        p.arrow(x + width // 2, 146, x + width // 2, 182, both=True)
        p.box(x, 290, width, 34, state, fill=fill)
        p.arrow(x + width // 2, 246, x + width // 2, 290)
        if number:
            p.arrow(x - gap, 114, x, 114)
    p.text(24, 356, "Freed while it works: the work ends with a fault, or is dropped, and never reaches the tables of",
           size=12)
    p.text(24, 373, "whoever gets the number next. A reset of the machine frees all of them.", size=12)
    p.text(24, 402, "Every command takes the same time, however many PASIDs there are. docs/guest-abi.md has the bits.",
           size=12, colour=MUTED)
    return p


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "docs")
    architecture().write(folder / "architecture.svg")
    pasid().write(folder / "pasid.svg")


main()
