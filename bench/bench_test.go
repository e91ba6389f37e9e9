package main

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func TestRatiosAreOfRunsBesideEachOther(t *testing.T) {
	r := result{unit: "s", ours: []float64{1, 8, 3}, theirs: []float64{2, 4, 3}, with: "another", aim: "<= 1"}
	if got, want := r.ratios(), []float64{0.5, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var out strings.Builder
	newTable(&out).add(row{number: "3", name: "fragments"}, r)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got, want := strings.Join(strings.Fields(lines[len(lines)-1]), " "), "3 fragments s 1.00/3.00/8.00 2.00/3.00/4.00 0.50/1.00/2.00 <= 1 another"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFigures(t *testing.T) {
	for want, values := range map[string][]float64{
		"-": nil, "0.12": {0.123}, "12.3": {12.34}, "123": {123.4}, "1.00/3.00/4.00": {4, 1, 3, 2},
	} {
		if got := spread(values); got != want {
			t.Errorf("spread(%v) = %s, want %s", values, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	chosen, err := choose("1b,latency")
	if err != nil || len(chosen) != 2 || chosen[0].name != "peek" || chosen[1].number != "5" {
		t.Errorf("got %v, %v", chosen, err)
	}
	if _, err := choose("3,nonsense"); err == nil || !strings.Contains(err.Error(), "write one of backlog, peek") {
		t.Errorf("got %v", err)
	}
	if all, err := choose(""); err != nil || len(all) != 13 {
		t.Errorf("got %d rows, %v", len(all), err)
	}
}

// TestRowCounter counts what a binary COPY brings in pieces of any size.
func TestRowCounter(t *testing.T) {
	copied := make([]byte, 19) // the header
	add := func(data []byte) {
		copied = binary.BigEndian.AppendUint16(copied, 2)
		copied = binary.BigEndian.AppendUint32(copied, 8)
		copied = binary.BigEndian.AppendUint64(copied, 1)
		copied = append(binary.BigEndian.AppendUint32(copied, uint32(len(data))), data...)
	}
	commit := append([]byte("C\x00........"), 0, 0, 0, 0, 0, 0, 2, 9)
	for _, data := range [][]byte{[]byte("B"), []byte("R"), []byte("Urow"), []byte("Irow"), []byte("Drow"), append(commit, "........"...)} {
		add(data)
	}
	copied = append(copied, 0xff, 0xff) // the trailer
	for size := 1; size <= len(copied); size++ {
		var c rowCounter
		for piece := range slices.Chunk(copied, size) {
			if _, err := c.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if c.rows != 3 || c.last != 0x209 {
			t.Fatalf("in pieces of %d: %d rows, the last commit ends at %X", size, c.rows, c.last)
		}
	}
}
