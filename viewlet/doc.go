// Package viewlet holds the words of cdc-viewlet and the pipeline that moves
// them: changes in, refreshes coalesced in lanes, fragments out, LSNs confirmed.
package viewlet
